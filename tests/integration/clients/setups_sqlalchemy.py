"""SQLAlchemy over several drivers, synchronous and asynchronous."""

import contextlib

from tests.integration.clients import setups_mysql, setups_postgres
from tests.integration.clients.client_setup import TIMEOUT, ClientSetup, timeout
from tests.integration.clients.servers import serving
from tests.integration.clients.wire import mysql, postgres

# A word that the server knows the query by.
_QUERY = "SELECT provoked"
_SMALL_POOL = {"pool_size": 1, "max_overflow": 0, "pool_timeout": TIMEOUT}


def _libpq():
    """Return the options of libpq: it takes whole seconds, and makes 2 out of 1."""
    return {"connect_timeout": max(2, int(timeout())), "sslmode": "disable"}


def _asyncpg():
    return {"timeout": timeout(), "command_timeout": timeout(), "ssl": False}


def _pymysql():
    return {"connect_timeout": timeout(), "read_timeout": timeout()}


@contextlib.contextmanager
def _engine(address, options, **settings):
    import sqlalchemy

    engine = sqlalchemy.create_engine(address, connect_args=options(), **settings)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.asynccontextmanager
async def _async_engine(address, options, **settings):
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(address, connect_args=options(), **settings)
    try:
        yield engine
    finally:
        await engine.dispose()


def _address(driver, host, port):
    return f"{driver}://u:p@{host}:{port}/d"


def _setup(name, distributions, driver, *, options, family, idle):
    """Return the set-up of an engine.

    Args:
        name: The set-up's name.
        distributions: What is installed for it.
        driver: The dialect and the driver, as an address names them.
        options: Returns what the driver gets.
        family: The module whose situations, outages and refusals hold for the driver too.
        idle: A server that answers every query.
    """

    def query(host, port):
        _execute(_QUERY, _address(driver, host, port), options)

    def wrong_argument(host, port):
        with serving(idle) as server:
            _execute("SELECT :missing", _address(driver, host, server.port), options)

    def closed(host, port):
        with serving(idle) as server:
            _execute_closed(_address(driver, host, server.port), options)

    def full_pool(host, port):
        with serving(idle) as server:
            address = _address(driver, host, server.port)
            with _engine(address, options, **_SMALL_POOL) as engine:
                with engine.connect(), engine.connect():
                    pass

    misuse = {"closed connection": closed, "wrong argument": wrong_argument}
    misuse["exhausted pool"] = full_pool
    return _client_setup(name, distributions, query, family, misuse)


def _execute(query, address, options):
    from sqlalchemy import text

    with _engine(address, options) as engine, engine.connect() as connection:
        connection.execute(text(query))


def _execute_closed(address, options):
    from sqlalchemy import text

    with _engine(address, options) as engine:
        connection = engine.connect()
        connection.close()
        connection.execute(text(_QUERY))


def _async_setup(name, distributions, driver, *, options, family, idle):
    """Return the set-up of an asynchronous engine; the arguments are those of `_setup`."""

    async def query(host, port):
        from sqlalchemy import text

        address = _address(driver, host, port)
        async with _async_engine(address, options) as engine, engine.connect() as connection:
            await connection.execute(text(_QUERY))

    async def full_pool(host, port):
        with serving(idle) as server:
            address = _address(driver, host, server.port)
            async with _async_engine(address, options, **_SMALL_POOL) as engine:
                async with engine.connect(), engine.connect():
                    pass

    return _client_setup(name, distributions, query, family, {"exhausted pool": full_pool})


def _client_setup(name, distributions, query, family, misuse):
    return ClientSetup(
        name=name,
        distributions=distributions,
        call=query,
        behaviours=family.BEHAVIOURS,
        outages=family.OUTAGES,
        refusals=family.REFUSALS,
        misuse=misuse,
    )


_POSTGRES = {"family": setups_postgres, "idle": postgres.idle}
_MYSQL = {"family": setups_mysql, "idle": mysql.idle}

SETUPS = (
    _setup(
        "SQLAlchemy with psycopg",
        ("sqlalchemy", "psycopg"),
        "postgresql+psycopg",
        options=_libpq,
        **_POSTGRES,
    ),
    _setup(
        "SQLAlchemy with psycopg2",
        ("sqlalchemy", "psycopg2-binary"),
        "postgresql+psycopg2",
        options=_libpq,
        **_POSTGRES,
    ),
    _setup(
        "SQLAlchemy with PyMySQL",
        ("sqlalchemy", "pymysql"),
        "mysql+pymysql",
        options=_pymysql,
        **_MYSQL,
    ),
    _async_setup(
        "SQLAlchemy with asyncpg",
        ("sqlalchemy", "asyncpg"),
        "postgresql+asyncpg",
        options=_asyncpg,
        **_POSTGRES,
    ),
    _async_setup(
        "SQLAlchemy with psycopg, async",
        ("sqlalchemy", "psycopg"),
        "postgresql+psycopg_async",
        options=_libpq,
        **_POSTGRES,
    ),
)
