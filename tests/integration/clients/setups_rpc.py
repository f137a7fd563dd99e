"""GraphQL, SOAP and other calls over HTTP; each call imports its client."""

from functools import partial
from pathlib import Path

from tests.integration.clients.client_setup import timeout
from tests.integration.clients.http_setup import http_setup
from tests.integration.clients.servers import answer, refusals

# GraphQL


def _graphql(host, port, transport, query="{ hello }"):
    from gql import Client, gql

    with Client(transport=transport, execute_timeout=timeout()) as session:
        return session.execute(gql(query))


def gql_requests(host, port, **query):
    from gql.transport.requests import RequestsHTTPTransport

    transport = RequestsHTTPTransport(f"http://{host}:{port}/", timeout=timeout())
    return _graphql(host, port, transport, **query)


def gql_httpx(host, port, **query):
    from gql.transport.httpx import HTTPXTransport

    transport = HTTPXTransport(f"http://{host}:{port}/", timeout=timeout())
    return _graphql(host, port, transport, **query)


async def gql_aiohttp(host, port, query="{ hello }"):
    from gql import Client, gql
    from gql.transport.aiohttp import AIOHTTPTransport

    transport = AIOHTTPTransport(f"http://{host}:{port}/")
    async with Client(transport=transport, execute_timeout=timeout()) as session:
        return await session.execute(gql(query))


def gql_closed(host, port):
    from gql import gql
    from gql.transport.requests import RequestsHTTPTransport

    RequestsHTTPTransport(f"http://{host}:{port}/").execute(gql("{ hello }"))


def _gql_setup(name, call, **misuse):
    # GraphQL has errors of its own, and answers them with 200.
    no = answer(200, b'{"errors": [{"message": "no such field"}]}')
    return http_setup(
        f"gql, {name}",
        ("gql", name),
        call,
        refusals=refusals() | {"errors": no},
        misuse={"bad query": partial(call, query="{ not a query")} | misuse,
    )


# SOAP

WSDL = Path(__file__).parent / "calculator.wsdl"


def zeep_call(host, port, operation="Add", **arguments):
    import zeep

    transport = zeep.Transport(timeout=timeout(), operation_timeout=timeout())
    client = zeep.Client(str(WSDL), transport=transport)
    with transport.session:
        service = client.create_service("{urn:calculator}Binding", f"http://{host}:{port}/")
        return getattr(service, operation)(**({"number": 1} | arguments))


async def zeep_async(host, port, operation="Add", **arguments):
    import httpx
    import zeep
    import zeep.transports

    async with httpx.AsyncClient(timeout=timeout()) as http:
        transport = zeep.transports.AsyncTransport(
            client=http, wsdl_client=httpx.Client(timeout=timeout())
        )
        client = zeep.AsyncClient(str(WSDL), transport=transport)
        binding = client.wsdl.bindings["{urn:calculator}Binding"]
        service = zeep.proxy.AsyncServiceProxy(client, binding, address=f"http://{host}:{port}/")
        return await getattr(service, operation)(**({"number": 1} | arguments))


# A server answers a fault with status 500, as the protocol demands. This one blames the request.
SOAP_FAULT = answer(
    500,
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>'
    b"<faultcode>s:Client</faultcode><faultstring>no such account</faultstring>"
    b"</s:Fault></s:Body></s:Envelope>",
    headers=("Content-Type: text/xml",),
)


def _zeep_setup(name, distributions, call):
    return http_setup(
        name,
        distributions,
        call,
        refusals=refusals() | {"fault that blames the client": SOAP_FAULT},
        misuse={
            "no such operation": partial(call, operation="Divide"),
            "wrong argument": partial(call, no_such_argument=1),
        },
    )


SETUPS = [
    _gql_setup("requests", gql_requests, closed=gql_closed),
    _gql_setup("httpx", gql_httpx),
    _gql_setup("aiohttp", gql_aiohttp),
    _zeep_setup("zeep", ("zeep",), zeep_call),
    _zeep_setup("zeep, async", ("zeep", "httpx"), zeep_async),
]
