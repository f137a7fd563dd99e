"""Clients of MySQL and MariaDB."""

import asyncio
import contextlib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import mysql as wire

# A word that the server knows the query by.
_QUERY = "SELECT provoked"
_LOGIN = {"user": "u", "password": "p"}

BEHAVIOURS = {
    Situation.UNAVAILABLE: wire.refusing_connections(1040),  # too many connections
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: wire.cutting,
}

OUTAGES = {
    "1053 the server shuts down": wire.refusing_queries(1053, "08S01"),
    "1077 normal shutdown": wire.refusing_queries(1077, "00000"),
    "1021 the disk is full": wire.refusing_queries(1021, "HY000"),
    "1037 out of memory": wire.refusing_queries(1037, "HY001"),
    # After a failover: what was the primary takes no writes any more.
    "1836 read only": wire.refusing_queries(1836, "HY000"),
    "3024 the query took too long": wire.refusing_queries(3024, "HY000"),
}

REFUSALS = {
    "1045 wrong password": wire.refusing_logins(1045, "28000"),
    "1049 no such database": wire.refusing_logins(1049, "42000"),
    "1130 this host may not connect": wire.refusing_connections(1130),
    # A limit of this one user: the like of a 429.
    "1226 the user's limit is reached": wire.refusing_logins(1226, "42000"),
    "1146 no such table": wire.refusing_queries(1146, "42S02"),
    "1142 permission denied": wire.refusing_queries(1142, "42000"),
    "1064 syntax error": wire.refusing_queries(1064, "42000"),
    "1054 no such column": wire.refusing_queries(1054, "42S22"),
    "1366 wrong value": wire.refusing_queries(1366, "HY000"),
    "1062 duplicate entry": wire.refusing_queries(1062, "23000"),
    # Another transaction was first: the like of a 409.
    "1213 deadlock": wire.refusing_queries(1213, "40001"),
    "1205 the row is locked": wire.refusing_queries(1205, "HY000"),
}


def _pymysql(host, port):
    import pymysql

    times = {"connect_timeout": timeout(), "read_timeout": timeout(), "write_timeout": timeout()}
    connection = pymysql.connect(host=host, port=port, **_LOGIN, **times)
    with connection, connection.cursor() as cursor:
        cursor.execute(_QUERY)


def _pymysql_closed(host, port):
    import pymysql

    with serving(wire.idle) as server:
        connection = pymysql.connect(host=host, port=server.port, **_LOGIN)
        connection.close()
        connection.query(_QUERY)


def _pymysql_wrong_argument(host, port):
    import pymysql

    with serving(wire.idle) as server:
        connection = pymysql.connect(host=host, port=server.port, **_LOGIN)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s, %s", ("one too few",))


async def _aiomysql(host, port):
    # Its time-out for connecting ends with the TCP connection: its users do what stands here.
    import aiomysql

    async with asyncio.timeout(timeout()):
        connection = await aiomysql.connect(host=host, port=port, **_LOGIN)
        async with connection, connection.cursor() as cursor:
            await cursor.execute(_QUERY)


async def _aiomysql_closed(host, port):
    import aiomysql

    with serving(wire.idle) as server:
        connection = await aiomysql.connect(host=host, port=server.port, **_LOGIN)
        connection.close()
        await connection.query(_QUERY)


def _connector(host, port):
    import mysql.connector

    times = {"connection_timeout": max(1, int(timeout()))}  # it takes whole seconds
    connection = mysql.connector.connect(host=host, port=port, use_pure=True, **_LOGIN, **times)
    with contextlib.closing(connection):
        cursor = connection.cursor()
        cursor.execute(_QUERY)
        cursor.fetchall()


def _connector_closed(host, port):
    import mysql.connector

    with serving(wire.idle) as server:
        connection = mysql.connector.connect(host=host, port=server.port, use_pure=True, **_LOGIN)
        connection.close()
        connection.cursor().execute(_QUERY)


def _connector_pool(host, port):
    import mysql.connector.pooling

    with serving(wire.idle) as server:
        pool = mysql.connector.pooling.MySQLConnectionPool(
            pool_size=1, host=host, port=server.port, use_pure=True, **_LOGIN
        )
        with contextlib.closing(pool.get_connection()):
            pool.get_connection()


def _connector_wrong_argument(host, port):
    import mysql.connector

    mysql.connector.connect(host=host, port=port, no_such_option=1, **_LOGIN)


SETUPS = (
    ClientSetup(
        name="PyMySQL",
        distributions=("pymysql",),
        call=_pymysql,
        behaviours=BEHAVIOURS,
        outages=OUTAGES | {"a query that hangs": wire.hanging_queries},
        refusals=REFUSALS,
        misuse={
            "closed connection": _pymysql_closed,
            "wrong argument": _pymysql_wrong_argument,
        },
    ),
    ClientSetup(
        name="aiomysql",
        distributions=("aiomysql",),
        call=_aiomysql,
        behaviours=BEHAVIOURS,
        outages=OUTAGES | {"a query that hangs": wire.hanging_queries},
        refusals=REFUSALS,
        misuse={"closed connection": _aiomysql_closed},
    ),
    ClientSetup(
        name="mysql-connector-python",
        distributions=("mysql-connector-python",),
        call=_connector,
        behaviours=BEHAVIOURS,
        outages=OUTAGES,
        refusals=REFUSALS,
        misuse={
            "closed connection": _connector_closed,
            "exhausted pool": _connector_pool,
            "wrong argument": _connector_wrong_argument,
        },
    ),
)
