"""The clients of services on the web, each made for one of them."""

from resilience.classify.library import ClientLibrary, Codes, Meaning

SDKS = (
    ClientLibrary(
        name="PureCloudPlatformClientV2 (Genesys Cloud)",
        packages=("PureCloudPlatformClientV2",),
        advice=(
            "It has no timeout, and sends a request again if the connection drops, even a POST."
            " [Set both](../how-to/clients.md#the-official-genesys-sdk)."
        ),
    ),
    ClientLibrary(
        name="openai, anthropic, groq, mistralai",
        packages=("openai", "anthropic", "groq", "mistralai"),
        outages=("APIConnectionError", "NoResponseError", "WebSocketConnectionClosedError"),
        # An error in the middle of a stream: the status has been sent already, and it was 200.
        codes=tuple(
            Codes(
                path,
                outages=("api_error", "overloaded_error", "server_error", "timeout_error"),
                throttling=("rate_limit_error",),
            )
            for path in ('body["error"]["type"]', "type")
        ),
        advice="`timeout=`, which is ten minutes, and `max_retries=0` if you retry yourself.",
    ),
    ClientLibrary(
        name="litellm",
        packages=("litellm",),
        # Its own time-outs have the status 408, which no server has sent.
        codes=(Codes("status_code", outages=(408,), types=("Timeout",)),),
        advice="A shorter `timeout` than its ten minutes, and `num_retries=0` below your own.",
    ),
    ClientLibrary(
        name="huggingface_hub",
        packages=("huggingface_hub",),
        outages=("OverloadedError",),
        misuse=("OfflineModeIsEnabled",),
    ),
    ClientLibrary(
        name="stripe",
        packages=("stripe",),
        outages=("APIConnectionError",),
    ),
    ClientLibrary(name="twilio", packages=("twilio",)),
    ClientLibrary(
        name="slack_sdk",
        packages=("slack_sdk",),
        # Slack answers with status 200.
        codes=(
            Codes(
                'response["error"]',
                outages=("fatal_error", "internal_error", "service_unavailable"),
                throttling=("rate_limited", "ratelimited"),
                others=Meaning.REFUSAL,
            ),
        ),
    ),
    ClientLibrary(
        name="python-telegram-bot",
        packages=("telegram",),
        outages=("NetworkError", "TimedOut"),
        throttling=("RetryAfter",),
        refusals=(
            "BadRequest",
            "ChatMigrated",
            "Conflict",
            "EndPointNotFound",
            "Forbidden",
            "InvalidToken",
        ),
        status_text=r"\((\d{3})\)(?:$|\. Parsing)",
        text="message",
        has_http_status=False,
    ),
    ClientLibrary(
        name="aiogram",
        packages=("aiogram",),
        outages=("TelegramNetworkError", "TelegramServerError"),
        throttling=("TelegramRetryAfter",),
        refusals=("TelegramAPIError", "TelegramEntityTooLarge"),
        # A gateway's page in the place of an answer; what cannot be deserialized was an answer.
        codes=(Codes("message", outages=("Failed to decode",), types=("ClientDecodeError",)),),
        has_http_status=False,
    ),
    ClientLibrary(
        name="spotipy",
        packages=("spotipy",),
        # What its retries make of a 503 has the status 429.
        codes=(Codes("reason.args[0]", outages=("too many 5",), types=("SpotifyException",)),),
        advice="`requests_timeout=`, and `status_retries=0` below your own retries.",
    ),
    ClientLibrary(
        name="dropbox",
        packages=("dropbox",),
        refusals=("ApiError",),
    ),
    ClientLibrary(
        name="box-sdk-gen",
        packages=("box_sdk_gen",),
        status=("response_info.status_code",),
        wrapped=("error",),
    ),
    ClientLibrary(
        name="ccxt",
        packages=("ccxt",),
        outages=("OperationFailed",),
        throttling=("DDoSProtection",),
        refusals=("ExchangeError", "InvalidNonce"),
        has_http_status=False,
    ),
    ClientLibrary(name="PyGithub", packages=("github",)),
    ClientLibrary(
        name="python-gitlab",
        packages=("gitlab",),
        outages=("GitlabConnectionError",),
    ),
    ClientLibrary(name="jira, atlassian-python-api", packages=("jira", "atlassian")),
    ClientLibrary(
        name="python-redmine",
        packages=("redminelib",),
        # The status is known by the type only.
        outages=("ServerError",),
        refusals=(
            "AuthError",
            "ConflictError",
            "ForbiddenError",
            "ImpersonateError",
            "RequestEntityTooLargeError",
            "ResourceNotFoundError",
            "ValidationError",
        ),
        advice='`requests={"timeout": 10}`, since it has none.',
    ),
    ClientLibrary(
        name="sendgrid",
        packages=("python_http_client", "sendgrid"),
    ),
    ClientLibrary(
        name="kubernetes, kubernetes_asyncio",
        packages=("kubernetes", "kubernetes_asyncio"),
        advice="`_request_timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="algoliasearch",
        packages=("algoliasearch",),
        outages=("AlgoliaUnreachableHostException",),
    ),
    ClientLibrary(
        name="meilisearch",
        packages=("meilisearch",),
        outages=("MeilisearchCommunicationError", "MeilisearchTimeoutError"),
    ),
    ClientLibrary(
        name="typesense",
        packages=("typesense",),
        status=("errno",),
    ),
    ClientLibrary(
        name="pysolr",
        packages=("pysolr",),
        status_text=r"\(HTTP (\d{3})\)",
    ),
    ClientLibrary(
        name="SPARQLWrapper",
        packages=("SPARQLWrapper",),
        outages=("EndPointInternalError",),
        refusals=("EndPointNotFound", "QueryBadFormed", "URITooLong", "Unauthorized"),
    ),
    ClientLibrary(name="docker", packages=("docker",)),
    ClientLibrary(
        name="hvac (Vault)",
        packages=("hvac",),
        # The status is known by the type only.
        outages=(
            "BadGateway",
            "InternalServerError",
            "UnexpectedError",
            "VaultDown",
            "VaultNotInitialized",
        ),
        # Any other status: Vault itself, and no gateway, says what is wrong.
        codes=(Codes("errors[0]", others=Meaning.REFUSAL, types=("UnexpectedError",)),),
        throttling=("RateLimitExceeded",),
        misuse=("ParamValidationError",),
        refusals=(
            "Forbidden",
            "InvalidPath",
            "InvalidRequest",
            "PreconditionFailed",
            "Unauthorized",
            "UnsupportedOperation",
        ),
    ),
    ClientLibrary(
        name="python-consul, py-consul",
        packages=("consul",),
        outages=("Timeout",),
        refusals=("ACLDisabled", "ACLPermissionDenied", "BadRequest", "ClientError", "NotFound"),
        status_text=r"^(\d{3})\b",
    ),
)
