"""SDKs of language models; each call imports its client."""

from functools import partial
from importlib import import_module

from tests.integration.clients.client_setup import TIMEOUT, timeout
from tests.integration.clients.http_setup import http_setup
from tests.integration.clients.servers import answer

# The SDKs that one generator makes from a description of the service have the same interface.


def _stainless(**options):
    """Return the arguments of such a client."""
    return {"api_key": "key", "max_retries": 0, "timeout": timeout(), **options}


def openai_sync(host, port, **options):
    import openai

    url = f"http://{host}:{port}/v1"
    with openai.OpenAI(**_stainless(**{"base_url": url} | options)) as client:
        return client.models.list()


async def openai_async(host, port, **options):
    import openai

    url = f"http://{host}:{port}/v1"
    async with openai.AsyncOpenAI(**_stainless(**{"base_url": url} | options)) as client:
        return await client.models.list()


def openai_streamed(host, port):
    import openai

    with openai.OpenAI(**_stainless(base_url=f"http://{host}:{port}/v1")) as client:
        stream = client.chat.completions.create(
            model="model", messages=[{"role": "user", "content": "?"}], stream=True
        )
        return list(stream)


def openai_bad_argument(host, port):
    import openai

    with openai.OpenAI(**_stainless(base_url=f"http://{host}:{port}/v1")) as client:
        client.models.retrieve("")


def openai_closed(host, port):
    import openai

    client = openai.OpenAI(**_stainless(base_url=f"http://{host}:{port}/v1"))
    client.close()
    client.models.list()


def openai_full_pool(host, port):
    import openai

    # httpx or its successor, whichever this version stands on.
    httpx = import_module(openai.DefaultHttpxClient.__mro__[2].__module__.partition(".")[0])
    limit = httpx.Timeout(timeout(), pool=TIMEOUT)
    pool = openai.DefaultHttpxClient(limits=httpx.Limits(max_connections=1))
    options = _stainless(base_url=f"http://{host}:{port}/v1", timeout=limit, http_client=pool)
    with openai.OpenAI(**options) as client:
        with client.models.with_streaming_response.list():
            client.models.list()


def anthropic_sync(host, port, **options):
    import anthropic

    url = f"http://{host}:{port}"
    with anthropic.Anthropic(**_stainless(**{"base_url": url} | options)) as client:
        return client.models.list()


async def anthropic_async(host, port, **options):
    import anthropic

    url = f"http://{host}:{port}"
    async with anthropic.AsyncAnthropic(**_stainless(**{"base_url": url} | options)) as client:
        return await client.models.list()


def anthropic_streamed(host, port):
    import anthropic

    with anthropic.Anthropic(**_stainless(base_url=f"http://{host}:{port}")) as client:
        with client.messages.stream(
            model="model", max_tokens=1, messages=[{"role": "user", "content": "?"}]
        ) as stream:
            return list(stream)


def anthropic_bad_argument(host, port):
    import anthropic

    with anthropic.Anthropic(**_stainless(base_url=f"http://{host}:{port}")) as client:
        client.messages.create(model="model")


def groq_call(host, port, **options):
    import groq

    with groq.Groq(**_stainless(base_url=f"http://{host}:{port}", **options)) as client:
        return client.models.list()


def mistral_call(host, port, key="key"):
    from mistralai.client import Mistral

    url = f"http://{host}:{port}"
    with Mistral(api_key=key, server_url=url, timeout_ms=round(timeout() * 1000)) as client:
        return client.models.list()


async def mistral_async(host, port, key="key"):
    from mistralai.client import Mistral

    url = f"http://{host}:{port}"
    async with Mistral(api_key=key, server_url=url, timeout_ms=round(timeout() * 1000)) as client:
        return await client.models.list_async()


NO_KEY = {"api_key": None}
OVERLOADED = {"529": answer(529)}

SETUPS = [
    http_setup(
        "openai, sync",
        ("openai",),
        openai_sync,
        misuse={
            "no key": partial(openai_sync, **NO_KEY),
            "bad scheme": partial(openai_sync, base_url="nonsense://localhost"),
            "bad argument": openai_bad_argument,
            "closed client": openai_closed,
            "full pool": openai_full_pool,
        },
    ),
    http_setup(
        "openai, async",
        ("openai",),
        openai_async,
        misuse={"no key": partial(openai_async, **NO_KEY)},
    ),
    http_setup("openai, streamed", ("openai",), openai_streamed),
    http_setup(
        "anthropic, sync",
        ("anthropic",),
        anthropic_sync,
        outages=OVERLOADED,
        misuse={
            "no key": partial(anthropic_sync, **NO_KEY),
            "bad argument": anthropic_bad_argument,
        },
    ),
    http_setup(
        "anthropic, async",
        ("anthropic",),
        anthropic_async,
        outages=OVERLOADED,
        misuse={"no key": partial(anthropic_async, **NO_KEY)},
    ),
    http_setup("anthropic, streamed", ("anthropic",), anthropic_streamed),
    http_setup("groq", ("groq",), groq_call, misuse={"no key": partial(groq_call, **NO_KEY)}),
    http_setup(
        "mistralai, sync",
        ("mistralai",),
        mistral_call,
        misuse={"wrong argument": partial(mistral_call, key=object())},
    ),
    http_setup(
        "mistralai, async",
        ("mistralai",),
        mistral_async,
        misuse={"wrong argument": partial(mistral_async, key=object())},
    ),
]
