"""requests, urllib3, niquests, and what the standard library has; each call imports its client."""

from functools import partial
from importlib import import_module

from tests.integration.clients.client_setup import TIMEOUT, Situation, timeout
from tests.integration.clients.http_setup import PROXY_AND_REDIRECTS, http_setup, raw_setup
from tests.integration.clients.servers import answer, refusals

# requests, and niquests with the same interface


def plain(library, host, port, scheme="http://", **options):
    options.setdefault("timeout", timeout())
    response = import_module(library).get(f"{scheme}{host}:{port}/", **options)
    response.raise_for_status()
    return response.json()


def returned(library, host, port):
    return import_module(library).get(f"http://{host}:{port}/", timeout=timeout())


async def asynchronous(library, host, port, scheme="http://", **options):
    async with import_module(library).AsyncSession() as session:
        response = await session.get(f"{scheme}{host}:{port}/", timeout=timeout(), **options)
        return response.raise_for_status().json()


def streamed(library, host, port):
    url = f"http://{host}:{port}/"
    with import_module(library).get(url, timeout=timeout(), stream=True) as response:
        response.raise_for_status()
        return list(response.iter_content(16))


def with_retry(library, host, port):
    """Retries as most programs have them: in the adapter, for some statuses."""
    requests = import_module(library)
    retry = import_module("urllib3.util").Retry(
        total=1, status_forcelist=(429, 500, 502, 503, 504), respect_retry_after_header=False
    )
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        response = session.get(f"http://{host}:{port}/", timeout=timeout())
        response.raise_for_status()
        return response.json()


def bad_json(library, host, port):
    return import_module(library).post(f"http://{host}:{port}/", json=object(), timeout=timeout())


def mistakes(call):
    return {
        "bad scheme": partial(call, scheme="nonsense://"),
        "no scheme": partial(call, scheme=""),
        "bad header": partial(call, headers={"X-Header": "a\nb"}),
        "wrong argument": partial(call, headers={"X-Header": object()}),
    }


def requests_setups(library):
    """Return the set-ups of requests or of niquests."""
    call = partial(plain, library)
    return [
        http_setup(
            library,
            (library,),
            call,
            ignored=PROXY_AND_REDIRECTS,
            misuse=mistakes(call) | {"bad JSON": partial(bad_json, library)},
        ),
        raw_setup(f"{library}, status returned", (library,), partial(returned, library)),
        http_setup(f"{library}, streamed", (library,), partial(streamed, library)),
    ]


# urllib3


def urllib3_pool(host, port, scheme="http://", **options):
    import urllib3

    with urllib3.PoolManager(retries=False, timeout=timeout()) as pool:
        return pool.request("GET", f"{scheme}{host}:{port}/", **options)


def urllib3_retries(host, port, scheme="http://", **options):
    import urllib3

    retries = urllib3.Retry(
        total=1, redirect=2, status_forcelist=(429, 503), respect_retry_after_header=False
    )
    with urllib3.PoolManager(retries=retries, timeout=timeout()) as pool:
        return pool.request("GET", f"{scheme}{host}:{port}/", **options)


def urllib3_closed(host, port):
    import urllib3

    pool = urllib3.HTTPConnectionPool(host, port, timeout=timeout())
    pool.close()
    return pool.request("GET", "/")


def urllib3_full(host, port):
    import urllib3

    with urllib3.HTTPConnectionPool(host, port, timeout=timeout(), maxsize=1, block=True) as pool:
        pool.request("GET", "/", preload_content=False)
        return pool.request("GET", "/", pool_timeout=TIMEOUT)


# The standard library


def urlopen(host, port, scheme="http://", **options):
    import urllib.request

    with urllib.request.urlopen(
        f"{scheme}{host}:{port}/", timeout=timeout(), **options
    ) as response:
        return response.read()


def http_client(host, port, **options):
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout())
    try:
        connection.request("GET", "/", **options)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def http_client_not_ready(host, port):
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout())
    try:
        connection.getresponse()
    finally:
        connection.close()


def http_client_busy(host, port):
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout())
    try:
        connection.request("GET", "/")
        connection.request("GET", "/")
    finally:
        connection.close()


def httplib2_call(host, port, scheme="http://"):
    import httplib2

    return httplib2.Http(timeout=timeout()).request(f"{scheme}{host}:{port}/")


def xmlrpc_call(host, port, argument=1, method="add", scheme="http://"):
    """A client of the standard library that has no time-out but that of its connections."""
    import http.client
    import xmlrpc.client

    class Transport(xmlrpc.client.Transport):
        def make_connection(self, host):
            connection = http.client.HTTPConnection(host, timeout=timeout())
            self._connection = host, connection
            return connection

    with xmlrpc.client.ServerProxy(f"{scheme}{host}:{port}/", Transport()) as proxy:
        return getattr(proxy, method)(argument)


def _xml(text):
    return answer(200, text.encode(), headers=("Content-Type: text/xml",))


XMLRPC_FAULT = _xml(
    "<?xml version='1.0'?><methodResponse><fault><value><struct>"
    "<member><name>faultCode</name><value><int>4</int></value></member>"
    "<member><name>faultString</name><value><string>no such method</string></value></member>"
    "</struct></value></fault></methodResponse>"
)

SETUPS = [
    *requests_setups("requests"),
    http_setup(
        "requests, Retry(status_forcelist)",
        ("requests", "urllib3"),
        partial(with_retry, "requests"),
    ),
    *requests_setups("niquests"),
    http_setup(
        "niquests, async",
        ("niquests",),
        partial(asynchronous, "niquests"),
        ignored=PROXY_AND_REDIRECTS,
        misuse=mistakes(partial(asynchronous, "niquests")),
    ),
    raw_setup(
        "urllib3",
        ("urllib3",),
        urllib3_pool,
        misuse={
            "bad scheme": partial(urllib3_pool, scheme="nonsense://"),
            "bad header": partial(urllib3_pool, headers={"X-Header": "a\nb"}),
            "wrong argument": partial(urllib3_pool, headers={"X-Header": object()}),
            "bad JSON": partial(urllib3_pool, json=object()),
            "closed pool": urllib3_closed,
            "full pool": urllib3_full,
        },
    ),
    raw_setup(
        "urllib3, Retry(status_forcelist)",
        ("urllib3",),
        urllib3_retries,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(urllib3_retries, scheme="nonsense://"),
            "bad header": partial(urllib3_retries, headers={"X-Header": "a\nb"}),
        },
    ),
    http_setup(
        "urllib.request",
        (),
        urlopen,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(urlopen, scheme="nonsense://"),
            "no scheme": partial(urlopen, scheme=""),
            "wrong argument": partial(urlopen, data="text"),
        },
    ),
    raw_setup(
        "http.client",
        (),
        http_client,
        misuse={
            "bad header": partial(http_client, headers={"X-Header": "a\nb"}),
            "wrong argument": partial(http_client, body=object()),
            "no request": http_client_not_ready,
            "busy connection": http_client_busy,
        },
    ),
    raw_setup(
        "httplib2",
        ("httplib2",),
        httplib2_call,
        ignored=PROXY_AND_REDIRECTS,
        misuse={"no scheme": partial(httplib2_call, scheme="")},
    ),
    http_setup(
        "xmlrpc.client",
        (),
        xmlrpc_call,
        left_out={
            Situation.CUTTING: "it takes half an answer for a whole one, and the parser complains"
        },
        refusals=refusals() | {"fault": XMLRPC_FAULT},
        misuse={
            "bad scheme": partial(xmlrpc_call, scheme="nonsense://"),
            "wrong argument": partial(xmlrpc_call, argument=object()),
        },
    ),
]
