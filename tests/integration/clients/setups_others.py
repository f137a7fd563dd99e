"""Clients of SQL Server and Oracle."""

import asyncio
import contextlib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import tds, tns

_QUERY = "SELECT provoked"

_TDS_BEHAVIOURS = {
    # The one of Azure: the database is not currently available.
    Situation.UNAVAILABLE: tds.refusing_logins(40613, 17),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: tds.cutting,
}
_TDS_OUTAGES = {
    "17142 the server is paused": tds.refusing_logins(17142),
    "6005 the server shuts down": tds.refusing_queries(6005, 20),
    "701 out of memory": tds.refusing_queries(701, 17),
    "9002 the log is full": tds.refusing_queries(9002, 17),
}
_TDS_REFUSALS = {
    "18456 wrong password": tds.refusing_logins(18456),
    "208 no such table": tds.refusing_queries(208),
    "102 syntax error": tds.refusing_queries(102, 15),
    "229 permission denied": tds.refusing_queries(229, 14),
    "245 wrong argument": tds.refusing_queries(245),
    "2627 duplicate key": tds.refusing_queries(2627, 14),
    # Another transaction was first: the like of a 409.
    "1205 deadlock": tds.refusing_queries(1205, 13),
}

# Where a server cannot be reached, pymssql raises the number of the last login that was refused in
# this process, whichever server that was. So it meets no refused login here.
_REFUSALS_OF_PYMSSQL = {
    name: behaviour for name, behaviour in _TDS_REFUSALS.items() if name != "18456 wrong password"
}


def _pytds(host, port):
    import pytds

    times = {"login_timeout": timeout(), "timeout": timeout()}
    with contextlib.closing(pytds.connect(host, port=port, **_LOGIN, **times)) as connection:
        connection.cursor().execute(_QUERY)


_LOGIN = {"user": "u", "password": "p"}


def _pytds_closed(host, port):
    import pytds

    with serving(tds.idle) as server:
        connection = pytds.connect(host, port=server.port, **_LOGIN)
        connection.close()
        connection.cursor()


def _pymssql(host, port):
    import pymssql

    times = {"login_timeout": max(1, int(timeout())), "timeout": max(1, int(timeout()))}
    login = _LOGIN | {"server": host, "port": str(port), "tds_version": "7.4", "encryption": "off"}
    with contextlib.closing(pymssql.connect(**login, **times)) as connection:
        connection.cursor().execute(_QUERY)


def _pymssql_wrong_argument(host, port):
    import pymssql

    pymssql.connect(server=host, port=str(port), tds_version="0.1", **_LOGIN)


_TNS_BEHAVIOURS = {
    Situation.UNAVAILABLE: tns.refusing(12518),  # the listener could not hand off the connection
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: tns.cutting,
}
_TNS_OUTAGES = {
    "12516 no handler": tns.refusing(12516),
    "12528 the instance takes no connections": tns.refusing(12528),
}


def _oracledb(host, port):
    import oracledb

    login = _LOGIN | {"dsn": f"{host}:{port}/d", "tcp_connect_timeout": timeout()}
    oracledb.connect(retry_count=0, **login).close()


async def _oracledb_async(host, port):
    import oracledb

    login = _LOGIN | {"dsn": f"{host}:{port}/d", "tcp_connect_timeout": timeout()}
    # Its time-out ends with the TCP connection: its users do what stands here.
    async with asyncio.timeout(timeout()):
        connection = await oracledb.connect_async(retry_count=0, **login)
        await connection.close()


def _oracledb_wrong_argument(host, port):
    import oracledb

    oracledb.connect(dsn=f"{host}:{port}/d", tcp_connect_timeout="soon", **_LOGIN)


SETUPS = (
    ClientSetup(
        name="python-tds",
        distributions=("python-tds",),
        call=_pytds,
        behaviours=_TDS_BEHAVIOURS,
        outages=_TDS_OUTAGES | {"a query that hangs": tds.hanging_queries},
        refusals=_TDS_REFUSALS,
        misuse={"closed connection": _pytds_closed},
    ),
    ClientSetup(
        name="pymssql",
        distributions=("pymssql",),
        call=_pymssql,
        behaviours=_TDS_BEHAVIOURS,
        left_out={Situation.HANGING: "it takes seven seconds, whatever its time-out"},
        outages=_TDS_OUTAGES,
        refusals=_REFUSALS_OF_PYMSSQL,
        misuse={"wrong argument": _pymssql_wrong_argument},
    ),
    ClientSetup(
        name="oracledb",
        distributions=("oracledb",),
        call=_oracledb,
        behaviours=_TNS_BEHAVIOURS,
        left_out={Situation.HANGING: "its time-out ends with the TCP connection"},
        outages=_TNS_OUTAGES,
        misuse={"wrong argument": _oracledb_wrong_argument},
    ),
    ClientSetup(
        name="oracledb, async",
        distributions=("oracledb",),
        call=_oracledb_async,
        behaviours=_TNS_BEHAVIOURS,
        outages=_TNS_OUTAGES,
    ),
)
