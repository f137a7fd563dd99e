"""SDKs of services that are asked over HTTP; each call imports its client."""

import math
from functools import partial

from tests.integration.clients.client_setup import Situation, timeout
from tests.integration.clients.http_setup import http_setup
from tests.integration.clients.servers import answer, refusals


def stripe_call(host, port, key="sk_test_key", **options):
    import stripe

    client = stripe.StripeClient(
        key,
        base_addresses={"api": f"http://{host}:{port}"},
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=timeout()),
    )
    return client.v1.customers.list(**options)


def stripe_forged_event(host, port):
    """Check an event that somebody else has signed."""
    import stripe

    stripe.Webhook.construct_event(b"{}", "t=1,v1=00", "secret")


async def stripe_async(host, port):
    import stripe

    client = stripe.StripeClient(
        "sk_test_key",
        base_addresses={"api": f"http://{host}:{port}"},
        max_network_retries=0,
        http_client=stripe.HTTPXClient(timeout=timeout()),
    )
    try:
        return await client.v1.customers.list_async()
    finally:
        await client._requestor._client.close_async()


STRIPE_NO = b'{"error": {"type": "invalid_request_error", "message": "no"}}'


def twilio_call(host, port, **options):
    from twilio.http.http_client import TwilioHttpClient
    from twilio.rest import Client

    client = Client("AC1", "token", http_client=TwilioHttpClient(timeout=timeout()))
    client.api.base_url = f"http://{host}:{port}"
    return client.api.v2010.accounts("AC1").messages.create(**{"to": "1", "body": "hi"} | options)


def slack_call(host, port, **options):
    from slack_sdk import WebClient

    url = f"http://{host}:{port}/"
    client = WebClient("token", base_url=url, timeout=timeout(), retry_handlers=[])
    return client.chat_postMessage(**{"channel": "C1", "text": "hi"} | options)


async def slack_async(host, port):
    from slack_sdk.web.async_client import AsyncWebClient

    url = f"http://{host}:{port}/"
    client = AsyncWebClient("token", base_url=url, timeout=timeout(), retry_handlers=[])
    return await client.chat_postMessage(channel="C1", text="hi")


SLACK_NO = answer(200, b'{"ok": false, "error": "channel_not_found"}')


def sendgrid_call(host, port, content="text"):
    import sendgrid

    client = sendgrid.SendGridAPIClient("key", host=f"http://{host}:{port}")
    client.client.timeout = timeout()
    return client.send({"content": content})


def github_call(host, port, name="owner/repository"):
    import github

    client = github.Github(
        base_url=f"http://{host}:{port}",
        auth=github.Auth.Token("token"),
        timeout=math.ceil(timeout()),  # it takes whole seconds
        retry=None,
        seconds_between_requests=None,
    )
    return client.get_repo(name)


def gitlab_call(host, port, **options):
    import gitlab

    url = f"http://{host}:{port}"
    with gitlab.Gitlab(url, private_token="token", timeout=timeout()) as client:
        return client.projects.get("1", obey_rate_limit=False, **options)


def gitlab_no_data(host, port):
    import gitlab

    with gitlab.Gitlab(f"http://{host}:{port}", timeout=timeout()) as client:
        client.projects.get("1", lazy=True).issues.create({})


def jira_call(host, port, key="A-1", **options):
    import jira

    client = jira.JIRA(
        f"http://{host}:{port}",
        token_auth="token",
        timeout=timeout(),
        max_retries=0,
        get_server_info=False,
        **options,
    )
    try:
        return client.issue(key)
    finally:
        client.close()


def notion_call(host, port, page="1"):
    import notion_client

    with notion_client.Client(
        auth="token",
        base_url=f"http://{host}:{port}",
        timeout_ms=round(timeout() * 1000),
        retry=False,
    ) as client:
        return client.pages.retrieve(page)


async def notion_async(host, port, page="1"):
    import notion_client

    async with notion_client.AsyncClient(
        auth="token",
        base_url=f"http://{host}:{port}",
        timeout_ms=round(timeout() * 1000),
        retry=False,
    ) as client:
        return await client.pages.retrieve(page)


NOTION_NO = b'{"object": "error", "code": "validation_error", "message": "no", "status": 400}'


def salesforce_call(host, port, **options):
    import requests
    from simple_salesforce import Salesforce

    with requests.Session() as session:
        client = Salesforce(
            **{"instance_url": f"https://{host}:{port}", "session_id": "id", "session": session}
            | options
        )
        client.base_url = f"http://{host}:{port}/services/data/v59.0/"
        return client.query("SELECT Id FROM Lead", timeout=timeout())


def hvac_call(host, port, path="secret"):
    import hvac

    client = hvac.Client(f"http://{host}:{port}", token="token", timeout=timeout())
    return client.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)


def hvac_wrong_argument(host, port):
    import hvac

    client = hvac.Client(f"http://{host}:{port}", token="token", timeout=timeout())
    client.secrets.transit.create_key("name", key_type="nonsense")


def consul_call(host, port, key="key", **options):
    import consul

    return consul.Consul(host, port, timeout=timeout()).kv.get(key, **options)


# Genesys Cloud


def _genesys_client(host, port, scheme):
    from PureCloudPlatformClientV2 import ApiClient
    from PureCloudPlatformClientV2.default_http_client import DefaultHttpClient

    http = DefaultHttpClient()
    # It has no setting for this.
    http.rest_client.pool_manager.connection_pool_kw |= {"timeout": timeout(), "retries": False}
    client = ApiClient(f"{scheme}://{host}:{port}")
    client.set_http_client(http)
    client.access_token = "token"
    return client


def genesys_call(host, port, user="1", scheme="http"):
    from PureCloudPlatformClientV2 import UsersApi

    client = _genesys_client(host, port, scheme)
    return UsersApi(client).get_user(user)


def genesys_wrong_argument(host, port):
    from PureCloudPlatformClientV2 import UsersApi

    UsersApi(_genesys_client(host, port, "http")).get_user("1", no_such_argument=1)


GENESYS_NO = b'{"message": "no", "code": "bad.request", "status": 400, "contextId": "1"}'

SETUPS = [
    http_setup(
        "Genesys Cloud SDK",
        ("purecloudplatformclientv2",),
        genesys_call,
        refusals=refusals(body=GENESYS_NO),
        misuse={
            "wrong argument": genesys_wrong_argument,
            "missing argument": partial(genesys_call, user=None),
        },
    ),
    # It reports status 0 if no answer came.
    http_setup(
        "Genesys Cloud SDK, TLS",
        ("purecloudplatformclientv2",),
        partial(genesys_call, scheme="https"),
        left_out={Situation.CUTTING: "without a certificate, no answer begins"},
        outages={},
        refusals={},
        ignored={},
    ),
    http_setup(
        "stripe",
        ("stripe",),
        stripe_call,
        refusals=refusals(body=STRIPE_NO),
        misuse={
            "no key": partial(stripe_call, key=None),
            "forged event": stripe_forged_event,
        },
    ),
    http_setup(
        "stripe, async", ("stripe", "httpx"), stripe_async, refusals=refusals(body=STRIPE_NO)
    ),
    http_setup(
        "twilio",
        ("twilio",),
        twilio_call,
        refusals=refusals(body=b'{"code": 20003, "message": "no", "status": 400}'),
        misuse={"wrong argument": partial(twilio_call, no_such_argument=1)},
    ),
    http_setup(
        "slack_sdk, sync",
        ("slack_sdk",),
        slack_call,
        refusals=refusals() | {"not ok": SLACK_NO},
        misuse={"wrong argument": partial(slack_call, blocks=object())},
    ),
    http_setup(
        "slack_sdk, async",
        ("slack_sdk", "aiohttp"),
        slack_async,
        refusals=refusals() | {"not ok": SLACK_NO},
    ),
    http_setup(
        "sendgrid",
        ("sendgrid",),
        sendgrid_call,
        misuse={"wrong argument": partial(sendgrid_call, content=object())},
    ),
    http_setup(
        "PyGithub",
        ("pygithub",),
        github_call,
        misuse={"wrong argument": partial(github_call, name=object())},
    ),
    http_setup(
        "python-gitlab",
        ("python-gitlab",),
        gitlab_call,
        misuse={
            "missing data": gitlab_no_data,
            "wrong argument": partial(gitlab_call, timeout="soon"),
        },
    ),
    http_setup(
        "jira",
        ("jira",),
        jira_call,
        misuse={"wrong argument": partial(jira_call, no_such_argument=1)},
    ),
    http_setup(
        "notion-client, sync",
        ("notion-client",),
        notion_call,
        refusals=refusals(body=NOTION_NO),
        misuse={"bad path": partial(notion_call, page="../other")},
    ),
    http_setup(
        "notion-client, async",
        ("notion-client",),
        notion_async,
        refusals=refusals(body=NOTION_NO),
        misuse={"bad path": partial(notion_async, page="../other")},
    ),
    http_setup(
        "simple-salesforce",
        ("simple-salesforce",),
        salesforce_call,
        refusals=refusals(body=b'[{"errorCode": "INVALID_FIELD", "message": "no"}]'),
        misuse={"missing argument": partial(salesforce_call, session_id=None)},
    ),
    http_setup(
        "hvac",
        ("hvac",),
        hvac_call,
        # It has a type for each status that Vault answers, and one for all others: a proxy's 407
        # and a load balancer's 504 look the same.
        ignored={},
        refusals=refusals(400, 401, 403, 404, 405, 412, 429, body=b'{"errors": ["no"]}'),
        misuse={"wrong argument": hvac_wrong_argument},
    ),
    http_setup(
        "python-consul2",
        ("python-consul2",),
        consul_call,
        # A 404 means that the key does not exist, and is returned.
        refusals=refusals(400, 401, 403, 409, 422, 429),
        misuse={"wrong argument": partial(consul_call, no_such_argument=1)},
    ),
]
