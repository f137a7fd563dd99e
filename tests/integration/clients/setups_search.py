"""Databases and search engines that are asked over HTTP; each call imports its client."""

import math
from functools import partial

from tests.integration.clients.client_setup import timeout
from tests.integration.clients.http_setup import http_setup
from tests.integration.clients.servers import refusals


def elastic(host, port, index="index", **options):
    from elasticsearch import Elasticsearch

    url = f"http://{host}:{port}"
    with Elasticsearch(url, request_timeout=timeout(), max_retries=0) as client:
        return client.get(index=index, id="1", **options)


async def elastic_async(host, port, index="index"):
    from elasticsearch import AsyncElasticsearch

    url = f"http://{host}:{port}"
    async with AsyncElasticsearch(url, request_timeout=timeout(), max_retries=0) as client:
        return await client.get(index=index, id="1")


def opensearch(host, port, index="index", **options):
    from opensearchpy import OpenSearch

    url = f"http://{host}:{port}"
    with OpenSearch(url, timeout=timeout(), max_retries=0) as client:
        return client.get(index=index, id="1", **options)


async def opensearch_async(host, port, index="index"):
    from opensearchpy import AsyncOpenSearch

    url = f"http://{host}:{port}"
    async with AsyncOpenSearch(url, timeout=timeout(), max_retries=0) as client:
        return await client.get(index=index, id="1")


def influx(host, port, query="buckets()", **options):
    from influxdb_client import InfluxDBClient

    milliseconds = round(timeout() * 1000)
    url = f"http://{host}:{port}"
    with InfluxDBClient(url, "token", org="org", timeout=milliseconds, retries=False) as client:
        return client.query_api().query(query, **options)


def clickhouse(host, port, query="SELECT 1", **options):
    import clickhouse_connect

    client = clickhouse_connect.get_client(
        host=host,
        port=port,
        # It takes whole seconds.
        connect_timeout=math.ceil(timeout()),
        send_receive_timeout=math.ceil(timeout()),
        query_retries=0,
        **options,
    )
    with client:
        return client.query(query)


def algolia(host, port, index="index"):
    from algoliasearch.http.hosts import Host, HostsCollection
    from algoliasearch.search.client import SearchClientSync
    from algoliasearch.search.config import SearchConfig

    config = SearchConfig("app", "key")
    config.hosts = HostsCollection([Host(host, scheme="http", port=port)])
    config.connect_timeout = config.read_timeout = round(timeout() * 1000)
    with SearchClientSync(config=config) as client:
        return client.get_object(index, "1")


async def algolia_async(host, port, index="index"):
    from algoliasearch.http.hosts import Host, HostsCollection
    from algoliasearch.search.client import SearchClient
    from algoliasearch.search.config import SearchConfig

    config = SearchConfig("app", "key")
    config.hosts = HostsCollection([Host(host, scheme="http", port=port)])
    config.connect_timeout = config.read_timeout = round(timeout() * 1000)
    async with SearchClient(config=config) as client:
        return await client.get_object(index, "1")


def meilisearch_call(host, port, name="index"):
    import meilisearch

    return meilisearch.Client(f"http://{host}:{port}", "key", timeout=timeout()).get_index(name)


MEILISEARCH_NO = b'{"message": "no", "code": "bad", "type": "invalid_request", "link": ""}'


def typesense_call(host, port, **options):
    import typesense

    nodes = [{"host": host, "port": str(port), "protocol": "http"}]
    client = typesense.Client(
        {"nodes": nodes, "api_key": "key", "connection_timeout_seconds": timeout()}
        | {"num_retries": 0, "retry_interval_seconds": 0}
        | options
    )
    return client.collections["books"].retrieve()


def solr(host, port):
    import pysolr

    client = pysolr.Solr(f"http://{host}:{port}/solr/core", timeout=timeout())
    try:
        return client.search("*:*")
    finally:
        client.get_session().close()


def solr_no_documents(host, port):
    import pysolr

    pysolr.Solr(f"http://{host}:{port}/solr/core").add(5)


def sparql(host, port, query="SELECT * { ?s ?p ?o }"):
    from SPARQLWrapper import SPARQLWrapper

    client = SPARQLWrapper(f"http://{host}:{port}/")
    client.setTimeout(1)
    client.timeout = timeout()  # the setter takes whole seconds
    client.setQuery(query)
    return client.query().response.read()


SETUPS = [
    http_setup(
        "elasticsearch, sync",
        ("elasticsearch",),
        elastic,
        misuse={
            "missing argument": partial(elastic, index=""),
            "wrong argument": partial(elastic, no_such_argument=1),
        },
    ),
    http_setup(
        "elasticsearch, async",
        ("elasticsearch", "aiohttp"),
        elastic_async,
        misuse={"missing argument": partial(elastic_async, index="")},
    ),
    http_setup(
        "opensearch-py, sync",
        ("opensearch-py",),
        opensearch,
        misuse={
            "missing argument": partial(opensearch, index=""),
            "wrong argument": partial(opensearch, no_such_argument=1),
        },
    ),
    http_setup(
        "opensearch-py, async",
        ("opensearch-py", "aiohttp"),
        opensearch_async,
        misuse={"missing argument": partial(opensearch_async, index="")},
    ),
    http_setup(
        "influxdb-client",
        ("influxdb-client",),
        influx,
        misuse={"wrong argument": partial(influx, no_such_argument=1)},
    ),
    http_setup(
        "clickhouse-connect",
        ("clickhouse-connect",),
        clickhouse,
        misuse={"wrong argument": partial(clickhouse, interface="nonsense")},
    ),
    http_setup(
        "algoliasearch, sync",
        ("algoliasearch",),
        algolia,
        misuse={"missing argument": partial(algolia, index=None)},
    ),
    http_setup(
        "algoliasearch, async",
        ("algoliasearch",),
        algolia_async,
        misuse={"missing argument": partial(algolia_async, index=None)},
    ),
    http_setup(
        "meilisearch", ("meilisearch",), meilisearch_call, refusals=refusals(body=MEILISEARCH_NO)
    ),
    http_setup(
        "typesense",
        ("typesense",),
        typesense_call,
        # It has a type for each status of Typesense, and one for all others.
        refusals=refusals(400, 401, 403, 404, 409, 422),
        misuse={"no key": partial(typesense_call, api_key=None)},
    ),
    http_setup(
        "pysolr",
        ("pysolr",),
        solr,
        misuse={"wrong argument": solr_no_documents},
    ),
    http_setup(
        "SPARQLWrapper",
        ("sparqlwrapper",),
        sparql,
        misuse={"wrong argument": partial(sparql, query=5)},
    ),
]
