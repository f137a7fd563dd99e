"""Clients of PostgreSQL."""

import contextlib

from tests.integration.clients.client_setup import TIMEOUT, ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import postgres

# A word that the server knows the query by.
_QUERY = "SELECT provoked"
_SHORT_LOGIN = {"user": "u", "password": "p", "database": "d"}

BEHAVIOURS = {
    Situation.UNAVAILABLE: postgres.refusing_logins("57P03"),  # starting up, or shutting down
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: postgres.cutting,
}

OUTAGES = {
    "53300 too many connections": postgres.refusing_logins("53300"),
    "57P01 the administrator shuts down": postgres.refusing_queries("57P01", "FATAL"),
    "57P02 the server crashed": postgres.refusing_queries("57P02", "FATAL"),
    "53100 the disk is full": postgres.refusing_queries("53100"),
    "53200 out of memory": postgres.refusing_queries("53200"),
    "58030 input or output error": postgres.refusing_queries("58030"),
    "08006 connection failure": postgres.refusing_queries("08006"),
    "XX000 internal error": postgres.refusing_queries("XX000"),
    # The server's statement_timeout: for many the only time-out that they set.
    "57014 the query took too long": postgres.refusing_queries("57014"),
}

REFUSALS = {
    "28P01 wrong password": postgres.refusing_logins("28P01"),
    "28000 no entry in pg_hba.conf": postgres.refusing_logins("28000"),
    "3D000 no such database": postgres.refusing_logins("3D000"),
    "42P01 no such table": postgres.refusing_queries("42P01"),
    "42501 permission denied": postgres.refusing_queries("42501"),
    "42601 syntax error": postgres.refusing_queries("42601"),
    "22P02 wrong argument": postgres.refusing_queries("22P02"),
    "23505 unique violation": postgres.refusing_queries("23505"),
    # Another transaction was first: the like of a 409.
    "40001 serialization failure": postgres.refusing_queries("40001"),
    "40P01 deadlock": postgres.refusing_queries("40P01"),
    "55P03 the row is locked": postgres.refusing_queries("55P03"),
}


def _login():
    """Return how to log in with libpq: it takes whole seconds, and makes 2 out of 1."""
    seconds = max(2, int(timeout()))
    login = {"user": "u", "password": "p", "dbname": "d", "sslmode": "disable"}
    return login | {"connect_timeout": seconds}


def _psycopg(host, port):
    import psycopg

    with psycopg.connect(host=host, port=port, **_login()) as connection:
        connection.execute(_QUERY)


def _psycopg_closed(host, port):
    import psycopg

    with serving(postgres.idle) as server:
        connection = psycopg.connect(host=host, port=server.port, **_login())
        connection.close()
        connection.execute(_QUERY)


def _psycopg_wrong_argument(host, port):
    import psycopg

    with (
        serving(postgres.idle) as server,
        psycopg.connect(host=host, port=server.port, **_login()) as connection,
    ):
        connection.execute("SELECT %s", ("one", "too many"))


def _psycopg_pool(host, port):
    import psycopg_pool

    with serving(postgres.idle) as server:
        address = {"host": host, "port": server.port}
        with (
            psycopg_pool.ConnectionPool(
                kwargs=_login() | address, min_size=1, max_size=1, timeout=5
            ) as pool,
            pool.connection(),
            pool.connection(timeout=TIMEOUT),
        ):
            pass


async def _psycopg_async(host, port):
    import psycopg

    connect = psycopg.AsyncConnection.connect
    async with await connect(host=host, port=port, **_login()) as connection:
        await connection.execute(_QUERY)


async def _psycopg_async_closed(host, port):
    import psycopg

    with serving(postgres.idle) as server:
        connection = await psycopg.AsyncConnection.connect(host=host, port=server.port, **_login())
        await connection.close()
        await connection.execute(_QUERY)


async def _psycopg_async_pool(host, port):
    import psycopg_pool

    with serving(postgres.idle) as server:
        address = {"host": host, "port": server.port}
        async with (
            psycopg_pool.AsyncConnectionPool(
                kwargs=_login() | address, min_size=1, max_size=1, timeout=5, open=False
            ) as pool,
            pool.connection(),
            pool.connection(timeout=TIMEOUT),
        ):
            pass


def _psycopg2(host, port):
    import psycopg2

    with contextlib.closing(psycopg2.connect(host=host, port=port, **_login())) as connection:
        connection.cursor().execute(_QUERY)


def _psycopg2_closed(host, port):
    import psycopg2

    with serving(postgres.idle) as server:
        connection = psycopg2.connect(host=host, port=server.port, **_login())
        connection.close()
        connection.cursor()


def _psycopg2_pool(host, port):
    from psycopg2.pool import ThreadedConnectionPool

    with serving(postgres.idle) as server:
        pool = ThreadedConnectionPool(1, 1, host=host, port=server.port, **_login())
        with contextlib.closing(pool):
            pool.getconn()
            pool.getconn()


def _psycopg2_wrong_argument(host, port):
    import psycopg2

    psycopg2.connect(host=host, port=port, **_login(), no_such_option=1)


async def _asyncpg(host, port):
    import asyncpg

    connection = await asyncpg.connect(
        host=host,
        port=port,
        timeout=timeout(),
        command_timeout=timeout(),
        ssl=False,
        **_SHORT_LOGIN,
    )
    try:
        await connection.execute(_QUERY)
    finally:
        connection.terminate()


async def _asyncpg_closed(host, port):
    import asyncpg

    with serving(postgres.idle) as server:
        connection = await asyncpg.connect(host=host, port=server.port, ssl=False, **_SHORT_LOGIN)
        await connection.close()
        await connection.execute(_QUERY)


async def _asyncpg_wrong_argument(host, port):
    import asyncpg

    await asyncpg.connect(host=host, port=port, ssl=False, statement_cache_size=-1, **_SHORT_LOGIN)


async def _asyncpg_closed_pool(host, port):
    import asyncpg

    with serving(postgres.idle) as server:
        pool = asyncpg.create_pool(
            host=host, port=server.port, ssl=False, min_size=1, max_size=1, **_SHORT_LOGIN
        )
        async with pool:
            pass
        await pool.acquire()


def _pg8000(host, port):
    import pg8000.dbapi

    login = {"host": host, "port": port, "timeout": timeout(), **_SHORT_LOGIN}
    with contextlib.closing(pg8000.dbapi.connect(**login)) as connection:
        connection.cursor().execute(_QUERY)


def _pg8000_closed(host, port):
    import pg8000.dbapi

    with serving(postgres.idle) as server:
        connection = pg8000.dbapi.connect(host=host, port=server.port, **_SHORT_LOGIN)
        connection.close()
        connection.cursor().execute(_QUERY)


SETUPS = (
    ClientSetup(
        name="psycopg",
        distributions=("psycopg",),
        call=_psycopg,
        behaviours=BEHAVIOURS,
        outages=OUTAGES,
        refusals=REFUSALS,
        misuse={
            "closed connection": _psycopg_closed,
            "wrong argument": _psycopg_wrong_argument,
            "exhausted pool": _psycopg_pool,
        },
    ),
    ClientSetup(
        name="psycopg, async",
        distributions=("psycopg",),
        call=_psycopg_async,
        behaviours=BEHAVIOURS,
        outages=OUTAGES,
        refusals=REFUSALS,
        misuse={
            "closed connection": _psycopg_async_closed,
            "exhausted pool": _psycopg_async_pool,
        },
    ),
    ClientSetup(
        name="psycopg2",
        distributions=("psycopg2-binary",),
        call=_psycopg2,
        behaviours=BEHAVIOURS,
        outages=OUTAGES,
        refusals=REFUSALS,
        misuse={
            "closed connection": _psycopg2_closed,
            "exhausted pool": _psycopg2_pool,
            "wrong argument": _psycopg2_wrong_argument,
        },
    ),
    ClientSetup(
        name="asyncpg",
        distributions=("asyncpg",),
        call=_asyncpg,
        behaviours=BEHAVIOURS,
        outages=OUTAGES | {"a query that hangs": postgres.hanging_queries},
        refusals=REFUSALS,
        misuse={
            "closed connection": _asyncpg_closed,
            "closed pool": _asyncpg_closed_pool,
            "wrong argument": _asyncpg_wrong_argument,
        },
    ),
    ClientSetup(
        name="pg8000",
        distributions=("pg8000",),
        call=_pg8000,
        behaviours=BEHAVIOURS,
        outages=OUTAGES | {"a query that hangs": postgres.hanging_queries},
        refusals=REFUSALS,
        misuse={"closed connection": _pg8000_closed},
    ),
)
