"""The clouds: AWS, Azure, Google; and gRPC, on which much of them stands."""

from resilience.classify.library import ClientLibrary, Codes, Meaning

# Status codes of gRPC; what is left is the caller's fault.
_GRPC_OUTAGES = ("DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN")
# An error that the client itself makes of a bad argument has the code INTERNAL.
_NOT_SENT = ("Exception serializing request", "Failed to serialize")


def _grpc(path: str) -> Codes:
    return Codes(
        path,
        outages=_GRPC_OUTAGES,
        throttling=("RESOURCE_EXHAUSTED",),
        misuse=("CANCELLED", "OK"),
        others=Meaning.REFUSAL,
    )


CLOUDS = (
    ClientLibrary(
        name="grpcio",
        packages=("grpc",),
        outages=("FutureTimeoutError",),
        codes=(
            Codes("details()", misuse=_NOT_SENT),
            _grpc("code().name"),
        ),
        text="details()",
        has_http_status=False,
        advice="`timeout=` with each call: there is none by default.",
    ),
    ClientLibrary(
        name="grpclib",
        packages=("grpclib",),
        outages=("StreamTerminatedError",),
        codes=(_grpc("status.name"),),
        has_http_status=False,
        advice="`timeout=` with each call: there is none by default.",
    ),
    ClientLibrary(
        name="temporalio",
        packages=("temporalio",),
        codes=(_grpc("status.name"),),
        has_http_status=False,
    ),
    ClientLibrary(
        name="google-api-core, google-cloud-*, google-auth, google-api-python-client",
        packages=(
            "google.api_core",
            "google.auth",
            "google.cloud",
            "google.resumable_media",
            "google.genai",
            "googleapiclient",
        ),
        outages=("TimeoutError", "TransferStalledError", "TransportError"),
        # What a token is refused for is in the answer; its status is not.
        wrappers=("RefreshError",),
        codes=(
            Codes("message", misuse=_NOT_SENT, types=("GoogleAPICallError",)),
            _grpc("grpc_status_code.name"),
            Codes(
                'args[1]["error"]',
                outages=("internal_failure", "server_error", "temporarily_unavailable"),
                others=Meaning.REFUSAL,
                types=("RefreshError",),
            ),
        ),
        texts=(("necessary fields", Meaning.MISUSE),),
        wrapped=("cause",),
    ),
    ClientLibrary(
        name="botocore, boto3, aiobotocore",
        packages=("botocore", "boto3", "s3transfer", "aiobotocore", "aioboto3"),
        outages=(
            "ConnectionClosedError",
            "ConnectionError",
            "IncompleteReadError",
            "ReadTimeoutError",
            "ResponseStreamingError",
        ),
        wrappers=("HTTPClientError",),
        # Of an event in a stream, which has no status of its own.
        codes=(
            Codes(
                'response["Error"]["Code"]',
                outages=("InternalFailure", "InternalServer", "ServiceUnavailable"),
                types=("EventStreamError",),
            ),
        ),
        wrapped=('kwargs["error"]', "last_exception"),
        hides_cause=True,
        advice=(
            '`Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})` of'
            " `botocore.config`: its timeouts are 60 s, and it retries by itself."
        ),
    ),
    ClientLibrary(
        name="azure-core, azure-storage, azure-cosmos, azure-identity",
        packages=("azure",),
        outages=(
            "CosmosClientTimeoutError",
            "IncompleteReadError",
            "ServiceRequestError",
            "ServiceResponseError",
        ),
        refusals=("ClientAuthenticationError",),
        wrapped=("inner_exception",),
        advice="`connection_timeout=`, `read_timeout=`, and `retry_total=0`: it retries 10 times.",
    ),
    ClientLibrary(
        name="azure-servicebus, azure-eventhub",
        packages=("azure.servicebus", "azure.eventhub"),
        outages=(
            "ConnectError",
            "ConnectionLostError",
            "OperationTimeoutError",
            "ServiceBusCommunicationError",
            "ServiceBusConnectionError",
        ),
        throttling=("ServiceBusServerBusyError",),
        refusals=(
            "AuthenticationError",
            "EventDataSendError",
            "MessageLockLostError",
            "MessageNotFoundError",
            "MessagingEntityAlreadyExistsError",
            "MessagingEntityDisabledError",
            "MessagingEntityNotFoundError",
            "ServiceBusAuthenticationError",
            "ServiceBusAuthorizationError",
            "ServiceBusQuotaExceededError",
            "SessionCannotBeLockedError",
            "SessionLockLostError",
        ),
        misuse=("ClientClosedError", "EventDataError", "MessageSizeExceededError"),
        has_http_status=False,
    ),
    ClientLibrary(
        name="minio",
        packages=("minio",),
        status_text=r"Response code: (\d{3})",
    ),
    ClientLibrary(name="boto", packages=("boto",)),
)
