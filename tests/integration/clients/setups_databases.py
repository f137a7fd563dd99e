"""Clients of Cassandra, Neo4j and ClickHouse."""

from tests.integration.clients.client_setup import TIMEOUT, ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import cassandra, clickhouse
from tests.integration.clients.wire import neo4j as bolt

_QUERY = "SELECT provoked"


def _cluster(host, port):
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import FallthroughRetryPolicy

    profile = ExecutionProfile(request_timeout=timeout(), retry_policy=FallthroughRetryPolicy())
    return Cluster(
        [host],
        port=port,
        auth_provider=PlainTextAuthProvider("u", "p"),
        connect_timeout=timeout(),
        control_connection_timeout=timeout(),
        protocol_version=4,
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )


def _cassandra(host, port):
    cluster = _cluster(host, port)
    try:
        cluster.connect().execute(_QUERY)
    finally:
        cluster.shutdown()


def _cassandra_closed(host, port):
    with serving(cassandra.refusing_queries(0x2200)) as server:
        cluster = _cluster(host, server.port)
        cluster.connect()
        cluster.shutdown()
        cluster.connect()


def _cassandra_wrong_argument(host, port):
    with serving(cassandra.refusing_queries(0x2200)) as server:
        cluster = _cluster(host, server.port)
        try:
            cluster.connect().execute("SELECT %s, %s", ("one too few",))
        finally:
            cluster.shutdown()


def _neo4j_times():
    return {"connection_timeout": timeout(), "connection_acquisition_timeout": 2 * timeout()}


def _neo4j(host, port):
    with _driver(host, port) as driver, driver.session() as session:
        session.run(_QUERY).consume()


def _driver(host, port, **settings):
    import neo4j

    times = _neo4j_times() | settings
    return neo4j.GraphDatabase.driver(f"bolt://{host}:{port}", auth=("u", "p"), **times)


async def _neo4j_async(host, port):
    import neo4j

    async with (
        neo4j.AsyncGraphDatabase.driver(
            f"bolt://{host}:{port}", auth=("u", "p"), **_neo4j_times()
        ) as driver,
        driver.session() as session,
    ):
        result = await session.run(_QUERY)
        await result.consume()


def _neo4j_closed(host, port):
    driver = _driver(host, port)
    driver.close()
    driver.session()


# The driver insists on waiting for a place at least as long as for a connection.
_SMALL_POOL = {
    "connection_timeout": TIMEOUT,
    "connection_acquisition_timeout": 2 * TIMEOUT,
    "max_connection_pool_size": 1,
}


def _neo4j_pool(host, port):
    with (
        serving(bolt.refusing("Neo.ClientError.Statement.SyntaxError")) as server,
        _driver(host, server.port, **_SMALL_POOL) as driver,
        driver.session() as one,
        driver.session() as other,
        one.begin_transaction(),
        other.begin_transaction(),
    ):
        pass


def _neo4j_wrong_argument(host, port):
    import neo4j

    neo4j.GraphDatabase.driver(f"no-such-scheme://{host}:{port}")


_NEO4J_BEHAVIOURS = {
    Situation.UNAVAILABLE: bolt.refusing("Neo.TransientError.General.DatabaseUnavailable"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: bolt.cutting,
}
_NEO4J_OUTAGES = {
    "not yet available, at the login": bolt.refusing_logins(
        "Neo.TransientError.General.DatabaseUnavailable"
    ),
    "out of memory": bolt.refusing("Neo.TransientError.General.OutOfMemoryError"),
    "database error": bolt.refusing("Neo.DatabaseError.General.UnknownError"),
    # After an election: what was the leader takes no writes any more.
    "not a leader": bolt.refusing("Neo.ClientError.Cluster.NotALeader"),
    "the transaction took too long": bolt.refusing(
        "Neo.ClientError.Transaction.TransactionTimedOut"
    ),
}
_NEO4J_REFUSALS = {
    "wrong password": bolt.refusing_logins("Neo.ClientError.Security.Unauthorized"),
    "too many wrong passwords": bolt.refusing_logins(
        "Neo.ClientError.Security.AuthenticationRateLimit"
    ),
    "permission denied": bolt.refusing("Neo.ClientError.Security.Forbidden"),
    "no such database": bolt.refusing("Neo.ClientError.Database.DatabaseNotFound"),
    "syntax error": bolt.refusing("Neo.ClientError.Statement.SyntaxError"),
    "wrong argument": bolt.refusing("Neo.ClientError.Statement.ArgumentError"),
    "constraint": bolt.refusing("Neo.ClientError.Schema.ConstraintValidationFailed"),
    # Another transaction was first: the like of a 409.
    "deadlock": bolt.refusing("Neo.TransientError.Transaction.DeadlockDetected"),
}


def _clickhouse(host, port):
    import clickhouse_driver

    client = clickhouse_driver.Client(
        host,
        port,
        user="u",
        password="p",
        connect_timeout=timeout(),
        send_receive_timeout=timeout(),
    )
    try:
        client.execute(_QUERY)
    finally:
        client.disconnect()


def _clickhouse_wrong_argument(host, port):
    import clickhouse_driver

    with serving(clickhouse.hanging_queries) as server:
        client = clickhouse_driver.Client(host, server.port)
        try:
            client.execute("SELECT %(missing)s", {"other": 1})
        finally:
            client.disconnect()


SETUPS = (
    ClientSetup(
        name="cassandra-driver",
        distributions=("cassandra-driver",),
        call=_cassandra,
        behaviours={
            Situation.UNAVAILABLE: cassandra.refusing_queries(0x1001),  # overloaded
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: cassandra.cutting,
        },
        outages={
            "overloaded while connecting": cassandra.refusing_connections(0x1001),
            "server error": cassandra.refusing_queries(0x0000),
            "too few replicas": cassandra.refusing_queries(0x1000, cassandra.consistency()),
            "bootstrapping": cassandra.refusing_queries(0x1002),
            "read time-out": cassandra.refusing_queries(0x1200, cassandra.timed_out()),
            "write time-out": cassandra.refusing_queries(0x1100, cassandra.timed_out("SIMPLE")),
            "a query that hangs": cassandra.hanging_queries,
        },
        refusals={
            # The driver wraps this in the error that it has for a cluster that is out.
            "wrong password": cassandra.refusing_logins(0x0100),
            "permission denied": cassandra.refusing_queries(0x2100),
            "syntax error": cassandra.refusing_queries(0x2000),
            "no such table": cassandra.refusing_queries(0x2200),
        },
        misuse={
            "closed client": _cassandra_closed,
            "wrong argument": _cassandra_wrong_argument,
        },
    ),
    ClientSetup(
        name="neo4j",
        distributions=("neo4j",),
        call=_neo4j,
        behaviours=_NEO4J_BEHAVIOURS,
        outages=_NEO4J_OUTAGES,
        refusals=_NEO4J_REFUSALS,
        misuse={
            "closed driver": _neo4j_closed,
            "exhausted pool": _neo4j_pool,
            "wrong argument": _neo4j_wrong_argument,
        },
    ),
    ClientSetup(
        name="neo4j, async",
        distributions=("neo4j",),
        call=_neo4j_async,
        behaviours=_NEO4J_BEHAVIOURS,
        outages=_NEO4J_OUTAGES,
        refusals=_NEO4J_REFUSALS,
    ),
    ClientSetup(
        name="clickhouse-driver",
        distributions=("clickhouse-driver",),
        call=_clickhouse,
        behaviours={
            Situation.UNAVAILABLE: clickhouse.refusing_queries(
                202, "TOO_MANY_SIMULTANEOUS_QUERIES"
            ),
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: clickhouse.cutting,
        },
        outages={
            "159 took too long": clickhouse.refusing_queries(159, "TIMEOUT_EXCEEDED"),
            "210 a shard is out": clickhouse.refusing_queries(210, "NETWORK_ERROR"),
            "242 read only": clickhouse.refusing_queries(242, "TABLE_IS_READ_ONLY"),
            "999 the keeper is out": clickhouse.refusing_queries(999, "KEEPER_EXCEPTION"),
            "a query that hangs": clickhouse.hanging_queries,
        },
        refusals={
            "516 wrong password": clickhouse.refusing_logins(516, "AUTHENTICATION_FAILED"),
            "81 no such database": clickhouse.refusing_logins(81, "UNKNOWN_DATABASE"),
            "60 no such table": clickhouse.refusing_queries(60, "UNKNOWN_TABLE"),
            "62 syntax error": clickhouse.refusing_queries(62, "SYNTAX_ERROR"),
            "53 wrong type": clickhouse.refusing_queries(53, "TYPE_MISMATCH"),
            "497 permission denied": clickhouse.refusing_queries(497, "ACCESS_DENIED"),
            # The user's own quota: the like of a 429.
            "201 quota exceeded": clickhouse.refusing_queries(201, "QUOTA_EXCEEDED"),
        },
        misuse={"wrong argument": _clickhouse_wrong_argument},
    ),
)
