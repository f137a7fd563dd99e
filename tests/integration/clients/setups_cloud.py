"""SDKs of clouds and of what runs in them; each call imports its client."""

from functools import cache, partial

from tests.integration.clients.client_setup import Situation, timeout
from tests.integration.clients.http_setup import OUTAGES, http_setup
from tests.integration.clients.servers import answer, read_request, refusals

# AWS


def _aws(host, port, **options):
    """Return the arguments of a client of botocore."""
    from botocore.config import Config

    return {
        "endpoint_url": f"http://{host}:{port}",
        "region_name": "eu-west-1",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "config": Config(
            connect_timeout=timeout(),
            read_timeout=timeout(),
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
        **options,
    }


def s3(host, port, key="key", **options):
    import boto3

    client = boto3.client("s3", **_aws(host, port, **options))
    try:
        return client.get_object(Bucket="bucket", Key=key)["Body"].read()
    finally:
        client.close()


def dynamodb(host, port, key="1", **options):
    import boto3

    client = boto3.client("dynamodb", **_aws(host, port, **options))
    try:
        return client.get_item(TableName="table", Key={"id": {"S": key}})
    finally:
        client.close()


def no_credentials(host, port):
    import botocore.session

    session = botocore.session.Session()
    # What a machine has that is not in a cloud.
    session.get_component("credential_provider").providers.clear()
    arguments = _aws(host, port)
    del arguments["aws_access_key_id"], arguments["aws_secret_access_key"]
    session.create_client("dynamodb", **arguments).list_tables()


def no_region(host, port):
    import boto3

    boto3.client("dynamodb", **_aws(host, port, region_name="", endpoint_url=None))


def unknown_service(host, port):
    import boto3

    boto3.client("no-such-service", **_aws(host, port))


@cache
def aiobotocore_session():
    """Return a session that has read the descriptions of the services once."""
    from aiobotocore.session import get_session

    return get_session()


async def aiobotocore_s3(host, port, key="key", **options):
    async with aiobotocore_session().create_client("s3", **_aws(host, port, **options)) as client:
        response = await client.get_object(Bucket="bucket", Key=key)
        return await response["Body"].read()


async def aiobotocore_sqs(host, port, **message):
    async with aiobotocore_session().create_client("sqs", **_aws(host, port)) as client:
        url = f"http://{host}:{port}/1/queue"
        return await client.send_message(**{"QueueUrl": url, "MessageBody": "hi"} | message)


def _s3_error(status, code):
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return answer(status, body, headers=("Content-Type: application/xml",))


def _aws_error(status, code):
    body = f'{{"__type": "com.amazonaws#{code}", "message": "no"}}'.encode()
    return answer(status, body, headers=("Content-Type: application/x-amz-json-1.0",))


S3_REFUSALS = {
    "InvalidRequest": _s3_error(400, "InvalidRequest"),
    "AccessDenied": _s3_error(403, "AccessDenied"),
    "InvalidAccessKeyId": _s3_error(403, "InvalidAccessKeyId"),
    "NoSuchKey": _s3_error(404, "NoSuchKey"),
    "BucketAlreadyExists": _s3_error(409, "BucketAlreadyExists"),
    # Amazon's word for 429.
    "SlowDown": _s3_error(503, "SlowDown"),
}
S3_OUTAGES = OUTAGES | {
    "InternalError": _s3_error(500, "InternalError"),
    "ServiceUnavailable": _s3_error(503, "ServiceUnavailable"),
}
AWS_REFUSALS = refusals() | {
    name: _aws_error(400, name)
    for name in (
        "ValidationException",
        "ResourceNotFoundException",
        "ConditionalCheckFailedException",
        "UnrecognizedClientException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
    )
}
AWS_OUTAGES = OUTAGES | {"InternalServerError": _aws_error(500, "InternalServerError")}


# Azure


def _azure(host, port):
    """Return the arguments of a client of Azure's storage."""
    return {
        "account_url": f"http://{host}:{port}/account",
        "credential": {"account_name": "account", "account_key": "a2V5"},
        "retry_total": 0,
        "connection_timeout": timeout(),
        "read_timeout": timeout(),
    }


def cut_blob(connection):
    """Answer a range of a blob, and send half of what was announced."""
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n"
        b"Content-Range: bytes 0-999/1000\r\n\r\n" + b"x" * 500
    )


def azure_blob(host, port, container="container", **options):
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(**_azure(host, port) | options) as client:
        return client.get_blob_client(container, "blob").download_blob().readall()


async def azure_blob_async(host, port, container="container", **options):
    from azure.storage.blob.aio import BlobServiceClient

    async with BlobServiceClient(**_azure(host, port) | options) as client:
        blob = await client.get_blob_client(container, "blob").download_blob()
        return await blob.readall()


# Google


def google_storage(host, port, name="bucket", **options):
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="project",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": f"http://{host}:{port}"},
    )
    with client._http:
        return client.get_bucket(name, timeout=timeout(), retry=None, **options)


def google_auth(host, port, refresh_token="token", **options):
    """Refresh a token, as each client of Google does from time to time."""
    import requests
    from google.auth.transport.requests import Request
    from google.oauth2.credentials import Credentials

    credentials = Credentials(
        token=None,
        refresh_token=refresh_token,
        token_uri=f"http://{host}:{port}/token",
        client_id="client",
        client_secret="secret",
    )
    with requests.Session() as session:
        request = Request(session)
        credentials.refresh(partial(request, timeout=timeout()))


# What runs containers


def kubernetes_call(host, port, **options):
    from kubernetes import client

    configuration = client.Configuration(host=f"http://{host}:{port}")
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        return client.CoreV1Api(api).list_namespace(_request_timeout=timeout(), **options)


def docker_call(host, port, **options):
    import docker

    url = f"tcp://{host}:{port}"
    client = docker.DockerClient(
        **{"base_url": url, "version": "1.45"} | options, timeout=timeout()
    )
    try:
        return client.api.containers()
    finally:
        client.close()


def docker_nothing(host, port):
    import docker

    client = docker.DockerClient(base_url=f"tcp://{host}:{port}", version="1.45")
    client.images.build()


def minio_call(host, port, name="bucket", **options):
    import minio
    import urllib3

    http = urllib3.PoolManager(retries=False, timeout=timeout())
    client = minio.Minio(
        endpoint=f"{host}:{port}",
        access_key="key",
        secret_key="secret",
        secure=False,
        region="eu-west-1",
        http_client=http,
    )
    with http:
        return client.get_object(bucket_name=name, object_name="key", **options).read()


SETUPS = [
    http_setup(
        "boto3, S3",
        ("boto3", "botocore"),
        s3,
        outages=S3_OUTAGES,
        refusals=S3_REFUSALS,
        misuse={
            "missing argument": partial(s3, key=None),
            "bad argument": partial(s3, key=""),
            "bad URL": partial(s3, endpoint_url="nonsense"),
            "unknown service": unknown_service,
        },
    ),
    http_setup(
        "boto3, DynamoDB",
        ("boto3", "botocore"),
        dynamodb,
        left_out={Situation.CUTTING: "botocore takes half an answer in JSON for a whole one"},
        outages=AWS_OUTAGES,
        refusals=AWS_REFUSALS,
        misuse={
            "bad argument": partial(dynamodb, key=5),
            "no credentials": no_credentials,
            "no region": no_region,
        },
    ),
    http_setup(
        "aiobotocore, S3",
        ("aiobotocore", "botocore"),
        aiobotocore_s3,
        outages=S3_OUTAGES,
        refusals=S3_REFUSALS,
        misuse={"missing argument": partial(aiobotocore_s3, key=None)},
    ),
    http_setup(
        "aiobotocore, SQS",
        ("aiobotocore", "botocore"),
        aiobotocore_sqs,
        outages=AWS_OUTAGES,
        refusals=AWS_REFUSALS,
        misuse={"bad argument": partial(aiobotocore_sqs, MessageBody=5)},
    ),
    http_setup(
        "azure-storage-blob, sync",
        ("azure-storage-blob", "azure-core"),
        azure_blob,
        behaviours={Situation.CUTTING: cut_blob},
        misuse={
            "no container": partial(azure_blob, container=None),
            "wrong credential": partial(azure_blob, credential=object()),
        },
    ),
    http_setup(
        "azure-storage-blob, async",
        ("azure-storage-blob", "azure-core"),
        azure_blob_async,
        behaviours={Situation.CUTTING: cut_blob},
        misuse={"no container": partial(azure_blob_async, container=None)},
    ),
    http_setup(
        "google-cloud-storage",
        ("google-cloud-storage", "google-api-core"),
        google_storage,
        # After a 401 it would refresh its token, which is google-auth's.
        refusals=refusals(400, 403, 404, 409, 422, 429),
        misuse={"wrong argument": partial(google_storage, name=object())},
    ),
    http_setup(
        "google-auth",
        ("google-auth", "requests"),
        google_auth,
        # It makes three attempts, seconds apart.
        outages={},
        # What it raises has no status: other refusals look like a mistake of the client.
        refusals={"bad token": answer(400, b'{"error": "invalid_grant"}')},
        ignored={},
        misuse={"no token": partial(google_auth, refresh_token=None)},
    ),
    http_setup(
        "kubernetes",
        ("kubernetes",),
        kubernetes_call,
        misuse={"wrong argument": partial(kubernetes_call, no_such_argument=1)},
    ),
    http_setup(
        "docker",
        ("docker",),
        docker_call,
        misuse={
            "bad URL": partial(docker_call, base_url="nonsense://"),
            "missing argument": docker_nothing,
        },
    ),
    http_setup(
        "minio",
        ("minio",),
        minio_call,
        outages=S3_OUTAGES,
        refusals=S3_REFUSALS,
        misuse={
            "bad argument": partial(minio_call, name="B"),
            "wrong argument": partial(minio_call, no_such_argument=1),
        },
    ),
]
