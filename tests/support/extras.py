"""What needs an extra, as users import it: a module, or a name in a module (`module:name`)."""

NEEDED = {
    "resilience.integrations.aiohttp": "aiohttp",
    "resilience.integrations.aiohttp_web": "aiohttp",
    "resilience.integrations.httpx": "httpx",
    "resilience.integrations.httpx2": "httpx2",
    "resilience.integrations.opentelemetry": "opentelemetry",
    "resilience.integrations.prometheus": "prometheus",
    "resilience.integrations.rabbitmq": "rabbitmq",
    "resilience.integrations.redis": "redis",
    "resilience.integrations.requests": "requests",
    "resilience.integrations.starlette": "starlette",
    "resilience.integrations.status_page:status_page": "aiohttp",
    "resilience.testing:FakeGenesys": "aiohttp",
    "resilience.testing:StubBroker": "rabbitmq",
    "resilience.testing.rabbitmq": "rabbitmq",
}
