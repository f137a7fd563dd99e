"""SQLAlchemy over several drivers, synchronous and asynchronous."""

import sqlalchemy
import sqlalchemy.ext.asyncio
from sqlalchemy import text

from tests.integration.clients import setups_mysql, setups_postgres
from tests.integration.clients.client_setup import TIMEOUT, ClientSetup
from tests.integration.clients.servers import serving
from tests.integration.clients.wire import mysql, postgres

# A word that the server knows the query by.
_QUERY = "SELECT provoked"
# libpq takes whole seconds, and makes 2 out of 1.
_LIBPQ = {"connect_timeout": 2, "sslmode": "disable"}
_ASYNCPG = {"timeout": TIMEOUT, "command_timeout": TIMEOUT, "ssl": False}
_PYMYSQL = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}


def _setup(name, driver, *, options, family, idle, distributions):
    """Return the set-up of an engine.

    Args:
        name: The set-up's name.
        driver: The dialect and the driver, as an address names them.
        options: What the driver gets.
        family: The module whose situations, outages and refusals hold for the driver too.
        idle: A server that answers every query.
        distributions: What is installed for it.
    """

    def engine(host, port, **settings):
        address = f"{driver}://u:p@{host}:{port}/d"
        return sqlalchemy.create_engine(address, connect_args=options, **settings)

    def query(host, port):
        opened = engine(host, port)
        try:
            with opened.connect() as connection:
                connection.execute(text(_QUERY))
        finally:
            opened.dispose()

    def full_pool(host, port):
        with serving(idle) as server:
            opened = engine(host, server.port, pool_size=1, max_overflow=0, pool_timeout=TIMEOUT)
            try:
                with opened.connect(), opened.connect():
                    pass
            finally:
                opened.dispose()

    def closed(host, port):
        with serving(idle) as server:
            opened = engine(host, server.port)
            try:
                connection = opened.connect()
                connection.close()
                connection.execute(text(_QUERY))
            finally:
                opened.dispose()

    def wrong_argument(host, port):
        with serving(idle) as server:
            opened = engine(host, server.port)
            try:
                with opened.connect() as connection:
                    connection.execute(text("SELECT :missing"))
            finally:
                opened.dispose()

    return ClientSetup(
        name=name,
        distributions=distributions,
        call=query,
        behaviours=family.BEHAVIOURS,
        outages=family.OUTAGES,
        refusals=family.REFUSALS,
        misuse={
            "exhausted pool": full_pool,
            "closed connection": closed,
            "wrong argument": wrong_argument,
        },
    )


def _async_setup(name, driver, *, options, family, idle, distributions):
    """Return the set-up of an asynchronous engine; the arguments are those of `_setup`."""

    def engine(host, port, **settings):
        address = f"{driver}://u:p@{host}:{port}/d"
        create = sqlalchemy.ext.asyncio.create_async_engine
        return create(address, connect_args=options, **settings)

    async def query(host, port):
        opened = engine(host, port)
        try:
            async with opened.connect() as connection:
                await connection.execute(text(_QUERY))
        finally:
            await opened.dispose()

    async def full_pool(host, port):
        with serving(idle) as server:
            opened = engine(host, server.port, pool_size=1, max_overflow=0, pool_timeout=TIMEOUT)
            try:
                async with opened.connect(), opened.connect():
                    pass
            finally:
                await opened.dispose()

    return ClientSetup(
        name=name,
        distributions=distributions,
        call=query,
        behaviours=family.BEHAVIOURS,
        outages=family.OUTAGES,
        refusals=family.REFUSALS,
        misuse={"exhausted pool": full_pool},
    )


SETUPS = (
    _setup(
        "SQLAlchemy with psycopg",
        "postgresql+psycopg",
        options=_LIBPQ,
        family=setups_postgres,
        idle=postgres.idle,
        distributions=("sqlalchemy", "psycopg"),
    ),
    _setup(
        "SQLAlchemy with psycopg2",
        "postgresql+psycopg2",
        options=_LIBPQ,
        family=setups_postgres,
        idle=postgres.idle,
        distributions=("sqlalchemy", "psycopg2-binary"),
    ),
    _setup(
        "SQLAlchemy with PyMySQL",
        "mysql+pymysql",
        options=_PYMYSQL,
        family=setups_mysql,
        idle=mysql.idle,
        distributions=("sqlalchemy", "pymysql"),
    ),
    _async_setup(
        "SQLAlchemy with asyncpg",
        "postgresql+asyncpg",
        options=_ASYNCPG,
        family=setups_postgres,
        idle=postgres.idle,
        distributions=("sqlalchemy", "asyncpg"),
    ),
    _async_setup(
        "SQLAlchemy with psycopg, async",
        "postgresql+psycopg_async",
        options=_LIBPQ,
        family=setups_postgres,
        idle=postgres.idle,
        distributions=("sqlalchemy", "psycopg"),
    ),
)
