"""Databases, caches and stores of configuration."""

from resilience.classify.library import ClientLibrary, Codes, Meaning

_OUTAGE, _REFUSAL = Meaning.OUTAGE, Meaning.REFUSAL
_MISUSE, _LOCAL = Meaning.MISUSE, Meaning.LOCAL

# Classes of SQLSTATE: connection, too many connections, a statement that took too long, shutting
# down, starting up, a server that lacks something or has a fault of its own. What is left is about
# the statement or the login.
_SQLSTATE_OUTAGES = ("08", "53", "57014", "57P0", "58", "HYT", "XX")


def _sqlstate(path: str) -> Codes:
    return Codes(
        path,
        outages=_SQLSTATE_OUTAGES,
        refusals=("0", "2", "3", "4", "5", "P0"),
    )


# Numbers of MySQL and MariaDB: from 2000 to 2999 they are the client's, the others the server's.
_MYSQL_OUTAGES = (
    *(1021, 1037, 1040, 1041, 1043, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184),
    *(1290, 1836, 3024),
    *(1927, 2002, 2003, 2005, 2006, 2011, 2012, 2013, 2026, 2027, 2055, 3168, 3169, 4031),
)


def _mysql(path: str) -> Codes:
    return Codes(
        path,
        outages=_MYSQL_OUTAGES,
        throttling=(1203, 1226),
        local=(2001, 2004, 2008),
        misuse=(range(2000, 3000),),
        refusals=(range(1000, 2000), range(3000, 20_000)),
    )


def _mssql(path: str) -> Codes:
    """Return what the numbers of SQL Server mean: from 20,000 they are the client's."""
    return Codes(
        path,
        outages=(
            *(701, 802, 1105, 6005, 8645, 9002, 17142),
            *(64, 233, 10053, 10054, 10060, 10061, 40197, 40540, 40613),
            *(20002, 20003, 20004, 20006, 20009, 20017, 20047),
        ),
        throttling=(10928, 10929, 40501, range(49918, 49921)),
        refusals=(range(1, 20_000),),
    )


DATABASES = (
    ClientLibrary(
        name="redis, valkey",
        packages=("redis", "valkey", "coredis", "aioredis", "fakeredis"),
        outages=(
            "BusyLoadingError",
            "ClusterDownError",
            "ConnectionError",
            "InvalidResponse",
            "MasterDownError",
            "OutOfMemoryError",
            "ReadOnlyError",
            "RedisClusterException",
            "SlotNotCoveredError",
            "TimeoutError",
            "TryAgainError",
            "ValkeyClusterException",
        ),
        refusals=(
            "AuthenticationError",
            "AuthorizationError",
            "NoPermissionError",
            "ResponseError",
        ),
        misuse=("CrossSlotTransactionError", "DataError", "InvalidPipelineStack"),
        local=("MaxConnectionsError",),
        # Errors that have no type of their own.
        codes=(
            Codes(
                "args[0]",
                outages=(
                    *("BUSY ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN ", "NOREPLICAS "),
                    *("OOM ", "READONLY ", "TRYAGAIN ", "UNKILLABLE "),
                ),
                types=("ResponseError",),
            ),
        ),
        texts=(("No connection available", _LOCAL), ("Too many connections", _LOCAL)),
        has_http_status=False,
        hides_cause=True,
        advice="`socket_timeout=`, `socket_connect_timeout=`, and `retry=Retry(NoBackoff(), 0)`.",
    ),
    ClientLibrary(
        name="psycopg, psycopg2, psycopg_pool",
        packages=("psycopg", "psycopg2", "psycopg_pool"),
        outages=("OperationalError",),
        local=("PoolClosed", "PoolError", "PoolTimeout", "TooManyRequests"),
        codes=(_sqlstate("sqlstate"), _sqlstate("pgcode")),
        # An attempt to connect has no SQLSTATE.
        texts=(
            ("the database system is ", _OUTAGE),
            ("too many clients", _OUTAGE),
            ("too many connections", _OUTAGE),
            ("connection slots are reserved", _OUTAGE),
            ("terminating connection due to ", _OUTAGE),
            ("FATAL:", _REFUSAL),
            ("the connection is closed", _MISUSE),
            ("no password supplied", _MISUSE),
            ("connection option", _MISUSE),
            ("certificate file", _MISUSE),
            ("private key file", _MISUSE),
            ("another command is already in progress", _MISUSE),
            # What libpq says where it cannot even make a socket.
            ("no error details available", _LOCAL),
            ("", _LOCAL),
        ),
        has_http_status=False,
        advice="`connect_timeout=`, and `statement_timeout` or `tcp_user_timeout`.",
    ),
    ClientLibrary(
        name="pg8000",
        packages=("pg8000",),
        codes=(
            _sqlstate('args[0]["C"]'),
            Codes(
                "args[0]",
                outages=(
                    *("network error", "communication error", "Can't create a connection"),
                    "Server refuses SSL",
                ),
                types=("InterfaceError",),
            ),
        ),
        has_http_status=False,
        advice="`timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="asyncpg",
        packages=("asyncpg",),
        codes=(_sqlstate("sqlstate"),),
        has_http_status=False,
        pool_waits=("asyncpg.pool._acquire_impl > asyncio.queues.get",),
        advice="`timeout=` and `command_timeout=`.",
    ),
    ClientLibrary(
        name="PyMySQL, aiomysql, asyncmy, mysqlclient, mysql-connector-python, mariadb",
        packages=("pymysql", "aiomysql", "asyncmy", "MySQLdb", "mysql", "mariadb"),
        outages=("ConnectionTimeoutError", "ReadTimeoutError", "WriteTimeoutError"),
        local=("PoolError",),
        codes=(_mysql("errno"), _mysql("args[0]"), _sqlstate("sqlstate")),
        wrapped=("original_exception",),
        has_http_status=False,
        hides_cause=True,
        pool_waits=("aiomysql.pool._acquire > asyncio.locks.wait",),
        advice="`connect_timeout`, `read_timeout` and `write_timeout`.",
    ),
    ClientLibrary(
        name="oracledb",
        packages=("oracledb", "cx_Oracle"),
        codes=(
            Codes(
                "args[0].full_code",
                outages=(
                    *("DPY-4011", "DPY-4024", "DPY-6000", "DPY-6001", "DPY-6002", "DPY-6005"),
                    *("DPY-6003", "DPY-6006", "ORA-00018", "ORA-00020", "ORA-00028", "ORA-01033"),
                    *("ORA-01034", "ORA-01089", "ORA-01090", "ORA-01092", "ORA-03113"),
                    *("ORA-03114", "ORA-03135", "ORA-12152", "ORA-12153", "ORA-12170"),
                    *("ORA-12505", "ORA-12514", "ORA-12516", "ORA-12518", "ORA-12519"),
                    *("ORA-12520", "ORA-12528", "ORA-12535", "ORA-12537", "ORA-12541"),
                    *("ORA-12543", "ORA-12545", "ORA-12547", "ORA-12560", "ORA-12571"),
                ),
                local=("DPY-4005",),
                refusals=("ORA-",),
                misuse=("DPY-",),
            ),
        ),
        has_http_status=False,
        advice="`tcp_connect_timeout` and `call_timeout`.",
    ),
    ClientLibrary(
        name="pymssql",
        packages=("pymssql", "_mssql"),
        codes=(_mssql("args[0][0]"), _mssql("args[0]"), _mssql("number")),
        has_http_status=False,
        advice="`login_timeout` and `timeout`.",
    ),
    ClientLibrary(
        name="python-tds",
        packages=("pytds",),
        outages=("ClosedConnectionError",),
        refusals=("LoginError",),
        codes=(_mssql("number"),),
        texts=(("Cannot connect to server", _OUTAGE),),
        has_http_status=False,
        advice="`login_timeout` and `timeout`.",
    ),
    ClientLibrary(
        name="pyodbc, aioodbc",
        packages=("pyodbc",),
        codes=(_sqlstate("args[0]"), Codes("args[0]", misuse=("IM",))),
        has_http_status=False,
    ),
    ClientLibrary(
        name="SQLAlchemy",
        packages=("sqlalchemy",),
        local=("TimeoutError",),
        # What the driver's error says, in `orig`, decides where the connection is not lost.
        codes=(Codes("connection_invalidated", outages=(1,)),),
        wrapped=("orig",),
        has_http_status=False,
        advice="The timeouts of the driver, in `connect_args`.",
    ),
    # What the driver's error says, the first argument, decides.
    ClientLibrary(name="peewee", packages=("peewee",), has_http_status=False),
    ClientLibrary(
        name="pymongo, motor",
        packages=("pymongo", "motor"),
        outages=("ConnectionFailure",),
        local=("WaitQueueTimeoutError",),
        misuse=("ConfigurationError", "InvalidOperation"),
        codes=(
            Codes(
                "code",
                outages=(
                    *(6, 7, 50, 89, 91, 133, 189, 202, 262, 317, 9001, 10058, 10107, 11600),
                    *(11602, 13435, 13436, 14031),
                ),
                throttling=(16500,),
                others=_REFUSAL,
                types=("OperationFailure",),
            ),
        ),
        has_http_status=False,
        advice="`serverSelectionTimeoutMS`, which is 30 s, and `socketTimeoutMS`.",
    ),
    ClientLibrary(
        name="cassandra-driver, scylla-driver",
        packages=("cassandra",),
        outages=(
            "ConnectionException",
            "CoordinationFailure",
            "IsBootstrappingErrorMessage",
            "OperationTimedOut",
            "OverloadedErrorMessage",
            "ReadTimeoutErrorMessage",
            "ServerError",
            "Timeout",
            "Unavailable",
            "UnavailableErrorMessage",
            "UnresolvableContactPoints",
            "WriteTimeoutErrorMessage",
        ),
        wrappers=("NoHostAvailable",),
        refusals=("AuthenticationFailed", "BadCredentials", "RequestValidationException"),
        local=("ConnectionBusy", "NoConnectionsAvailable"),
        wrapped=("errors",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="neo4j",
        packages=("neo4j",),
        outages=("DatabaseError", "DatabaseUnavailable", "ServiceUnavailable", "SessionExpired"),
        codes=(
            Codes(
                "code",
                outages=(
                    "Neo.ClientError.Transaction.TransactionTimedOut",
                    "Neo.TransientError.General.DatabaseUnavailable",
                    "Neo.TransientError.General.MemoryPoolOutOfMemory",
                    "Neo.TransientError.General.OutOfMemory",
                ),
                types=("ClientError", "TransientError"),
            ),
        ),
        refusals=("ClientError", "TransientError"),
        misuse=("ConfigurationError",),
        local=("ConnectionPoolError",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="clickhouse-connect",
        packages=("clickhouse_connect",),
        wrappers=("OperationalError",),
        status_text=r"(?:returned response|HTTP) (?:code|status):? (\d{3})",
    ),
    ClientLibrary(
        name="clickhouse-driver, asynch",
        packages=("clickhouse_driver", "asynch"),
        outages=("NetworkError", "SocketTimeoutError"),
        codes=(
            Codes(
                "code",
                outages=(159, 164, 198, 202, 209, 210, 225, 236, 242, 279, 999),
                throttling=(201,),
                others=_REFUSAL,
                types=("ServerException",),
            ),
        ),
        has_http_status=False,
    ),
    ClientLibrary(
        name="influxdb, influxdb-client",
        packages=("influxdb", "influxdb_client"),
        outages=("InfluxDBServerError",),
    ),
    ClientLibrary(
        name="elasticsearch, opensearch-py",
        packages=("elastic_transport", "elasticsearch", "opensearchpy"),
        outages=("ConnectionError", "ConnectionTimeout", "SniffingError"),
        wrapped=("errors", "info"),
        advice="`request_timeout=`, or `timeout=` for opensearch-py.",
    ),
    ClientLibrary(
        name="snowflake-connector-python",
        packages=("snowflake.connector",),
        codes=(Codes("errno", outages=(250_002, 250_003, 251_011), misuse=(251_001, 251_005)),),
        has_http_status=False,
    ),
    ClientLibrary(
        name="databricks-sql-connector",
        packages=("databricks.sql",),
        outages=("MaxRetryDurationError", "NonRecoverableNetworkError"),
        refusals=("ServerOperationError",),
        misuse=("CursorAlreadyClosedError", "SessionAlreadyClosedError"),
        status=('context["http-code"]',),
    ),
    ClientLibrary(
        name="trino",
        packages=("trino",),
        outages=(
            "Http502Error",
            "Http503Error",
            "Http504Error",
            "TrinoConnectionError",
            "TrinoExternalError",
            "TrinoInternalError",
        ),
        refusals=("TrinoAuthError", "TrinoQueryError"),
    ),
    ClientLibrary(
        name="pymemcache, python-binary-memcached, aiomcache, pylibmc",
        packages=("pymemcache", "bmemcached", "aiomcache", "pylibmc", "_pylibmc"),
        outages=(
            "ConnectionError",
            "HostLookupError",
            "MemcacheServerError",
            "MemcacheUnknownError",
            "ServerDead",
            "ServerDown",
        ),
        refusals=("ClientException", "MemcacheClientError"),
        misuse=("MemcacheIllegalInputError", "ValidationException"),
        texts=(
            ("too large", _REFUSAL),
            ("SERVER_ERROR", _OUTAGE),
            ("failed: b''", _OUTAGE),
        ),
        has_http_status=False,
    ),
    ClientLibrary(
        name="couchbase",
        packages=("couchbase", "acouchbase", "txcouchbase"),
        outages=(
            "InternalServerFailureException",
            "ServiceUnavailableException",
            "TemporaryFailException",
            "TimeoutException",
            "AmbiguousTimeoutException",
            "UnAmbiguousTimeoutException",
        ),
        throttling=("QuotaLimitedException", "RateLimitedException"),
        refusals=(
            "AuthenticationException",
            "BucketNotFoundException",
            "CasMismatchException",
            "DocumentExistsException",
            "DocumentLockedException",
            "DocumentNotFoundException",
            "ParsingFailedException",
            "PathNotFoundException",
        ),
        misuse=("InvalidArgumentException",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="python-arango",
        packages=("arango",),
        outages=("ServerConnectionError",),
    ),
    ClientLibrary(
        name="qdrant-client",
        packages=("qdrant_client",),
        throttling=("ResourceExhaustedResponse",),
        wrapped=("source",),
    ),
    ClientLibrary(
        name="etcd3",
        packages=("etcd3", "aetcd", "aioetcd3"),
        outages=(
            "ConnectionFailedError",
            "ConnectionTimeoutError",
            "InternalServerError",
            "WatchTimedOut",
        ),
        refusals=("PreconditionFailedError", "RevisionCompactedError"),
        has_http_status=False,
    ),
    ClientLibrary(
        name="kazoo (ZooKeeper)",
        packages=("kazoo",),
        outages=(
            "ConnectionDropped",
            "ConnectionLoss",
            "KazooTimeoutError",
            "OperationTimeoutError",
            "RequestTimeoutError",
            "SessionExpiredError",
            "SystemZookeeperError",
        ),
        throttling=("ThrottledOpError",),
        refusals=("ZookeeperError",),
        misuse=("ConfigurationError", "ConnectionClosedError", "MarshallingError"),
        has_http_status=False,
    ),
    ClientLibrary(
        name="dnspython",
        packages=("dns",),
        outages=("NoNameservers", "Timeout"),
        refusals=("NXDOMAIN", "NoAnswer", "YXDOMAIN"),
    ),
)
