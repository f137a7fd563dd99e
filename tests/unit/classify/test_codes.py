"""Errors whose codes, or texts, say what happened."""

import enum
from types import SimpleNamespace

import pytest

from resilience import classify_error
from resilience.classify.library import Codes, Meaning
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, error_of, type_of

SQLSTATES = [
    *((state, FAILURE) for state in ("08000", "08006", "57P01", "57P03", "53300", "53200")),
    *((state, FAILURE) for state in ("58030", "XX000", "HYT00")),
    *((state, ANSWERED) for state in ("28P01", "42601", "23505", "22001", "3D000", "40001")),
    *((state, ANSWERED) for state in ("55P03", "P0001", "25006")),
    ("57014", FAILURE),
]


@pytest.mark.parametrize(("state", "outcome"), SQLSTATES)
@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("psycopg.errors.AnyError", "sqlstate"),
        ("psycopg2.errors.AnyError", "pgcode"),
        ("asyncpg.exceptions.AnyError", "sqlstate"),
    ],
)
def test_sqlstates(name, attribute, state, outcome):
    assert classify_error(error_of(name, **{attribute: state})) is outcome


def test_the_sqlstate_of_odbc_is_its_first_argument():
    def error(state):
        return error_of("pyodbc.OperationalError", state, "[Driver] message")

    assert classify_error(error("08S01")) is FAILURE
    assert classify_error(error("HYT00")) is FAILURE
    assert classify_error(error("28000")) is ANSWERED
    assert classify_error(error("IM002")) is IGNORED


def operational_error(text, **attributes):
    return error_of("psycopg.OperationalError", text, **attributes)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("connection failed: Connection refused", FAILURE),
        ("server closed the connection unexpectedly", FAILURE),
        ("FATAL:  the database system is starting up", FAILURE),
        ("FATAL:  sorry, too many clients already", FAILURE),
        ("FATAL:  terminating connection due to administrator command", FAILURE),
        ('FATAL:  password authentication failed for user "u"', ANSWERED),
        ('FATAL:  database "d" does not exist', ANSWERED),
        ("fe_sendauth: no password supplied", IGNORED),
        ("the connection is closed", IGNORED),
        ("could not create socket: Too many open files", IGNORED),
        ("connection is bad: no error details available", IGNORED),
        ("", IGNORED),
    ],
)
def test_an_attempt_to_connect_to_postgres_says_it_in_words(text, outcome):
    assert classify_error(operational_error(text)) is outcome


def test_the_words_of_a_type_that_is_not_known_say_nothing():
    error = error_of("psycopg.ProgrammingError", 'no such column: "FATAL: "')
    assert classify_error(error) is IGNORED


def test_a_code_weighs_more_than_the_words():
    error = operational_error("the connection is closed", sqlstate="57P01")
    assert classify_error(error) is FAILURE


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        *((2003, FAILURE), (2006, FAILURE), (2013, FAILURE), (1040, FAILURE), (1053, FAILURE)),
        *((1045, ANSWERED), (1064, ANSWERED), (1146, ANSWERED), (3024, FAILURE)),
        *((2014, IGNORED), (2004, IGNORED), (0, IGNORED), (-1, IGNORED)),
    ],
)
def test_numbers_of_mysql(number, outcome):
    assert classify_error(error_of("pymysql.err.OperationalError", number, "text")) is outcome
    assert classify_error(error_of("mysql.connector.errors.Error", errno=number)) is outcome


class StatusCode(enum.Enum):
    UNAVAILABLE = 14
    DEADLINE_EXCEEDED = 4
    INTERNAL = 13
    DATA_LOSS = 15
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    UNAUTHENTICATED = 16
    UNIMPLEMENTED = 12
    ABORTED = 10


GRPC = {
    **dict.fromkeys(("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"), FAILURE),
    **dict.fromkeys(("DATA_LOSS", "UNKNOWN"), FAILURE),
    "CANCELLED": IGNORED,
}
RpcError = type_of("grpc.RpcError")


class CallError(RpcError):
    def __init__(self, code, details="a message of the server"):
        super().__init__()
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


@pytest.mark.parametrize("code", StatusCode)
def test_status_codes_of_grpc(code):
    outcome = GRPC.get(code.name, ANSWERED)
    assert classify_error(CallError(code)) is outcome
    assert classify_error(error_of("grpclib.exceptions.GRPCError", status=code)) is outcome
    google = type_of("google.api_core.exceptions.AnyError")()
    google.code, google.grpc_status_code = 500, code
    assert classify_error(google) is outcome


def test_a_google_error_without_a_grpc_code_has_a_status():
    assert classify_error(error_of("google.api_core.exceptions.AnyError", code=503)) is FAILURE
    assert classify_error(error_of("google.api_core.exceptions.AnyError", code=404)) is ANSWERED


def test_a_request_that_grpc_could_not_serialize_is_ignored():
    error = CallError(StatusCode.INTERNAL, "Exception serializing request!")
    assert classify_error(error) is IGNORED


def test_grpc_without_files_is_ignored():
    details = "failed to connect to all addresses; last error: socket: Too many open files"
    assert classify_error(CallError(StatusCode.UNAVAILABLE, details)) is IGNORED


def test_an_rpc_error_without_a_code_says_nothing():
    assert classify_error(RpcError()) is IGNORED
    assert classify_error(CallError(None)) is IGNORED


class KafkaError:
    def __init__(self, name):
        self.name = lambda: name


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        *(("_TRANSPORT", FAILURE), ("_ALL_BROKERS_DOWN", FAILURE), ("_MSG_TIMED_OUT", FAILURE)),
        *(("LEADER_NOT_AVAILABLE", FAILURE), ("TOPIC_AUTHORIZATION_FAILED", ANSWERED)),
        *(("_AUTHENTICATION", ANSWERED), ("_INVALID_ARG", IGNORED), ("_QUEUE_FULL", IGNORED)),
    ],
)
def test_codes_of_librdkafka(name, outcome):
    assert classify_error(error_of("cimpl.KafkaException", KafkaError(name))) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (error_of("pycurl.error", 7, "Failed to connect"), FAILURE),
        (error_of("pycurl.error", 28, "Operation timed out"), FAILURE),
        (error_of("pycurl.error", 7, "Failed to connect: Too many open files"), IGNORED),
        (error_of("pycurl.error", 3, "URL malformed"), IGNORED),
        (error_of("pycurl.error", 67, "Login denied"), ANSWERED),
        (error_of("smtplib.SMTPResponseException", smtp_code=421), FAILURE),
        (error_of("smtplib.SMTPResponseException", smtp_code=550), ANSWERED),
        (error_of("ftplib.error_temp", "421 Service not available"), FAILURE),
        (error_of("ftplib.error_perm", "550 No such file"), ANSWERED),
        (error_of("imaplib.error", "command SEARCH illegal in state AUTH"), IGNORED),
        (error_of("imaplib.error", "[AUTHENTICATIONFAILED]"), ANSWERED),
        (error_of("hvac.exceptions.UnexpectedError", errors=["unsupported"]), ANSWERED),
        (error_of("hvac.exceptions.UnexpectedError", "<html>504</html>", errors=None), FAILURE),
        (error_of("sqlalchemy.exc.DBAPIError", connection_invalidated=True), FAILURE),
        (error_of("sqlalchemy.exc.DBAPIError", connection_invalidated=False), IGNORED),
        (error_of("pika.exceptions.ConnectionClosedByBroker", reply_code=320), FAILURE),
        (error_of("pika.exceptions.ConnectionClosedByBroker", reply_code=403), ANSWERED),
        (error_of("oracledb.Error", SimpleNamespace(full_code="ORA-12541")), FAILURE),
        (error_of("oracledb.Error", SimpleNamespace(full_code="ORA-01017")), ANSWERED),
        (error_of("oracledb.Error", SimpleNamespace(full_code="DPY-4005")), IGNORED),
        (error_of("oracledb.Error", SimpleNamespace(full_code="DPY-1001")), IGNORED),
        (error_of("pymssql.OperationalError", (20009, b"Unable to connect")), FAILURE),
        (error_of("pymssql.OperationalError", 18456, b"Login failed"), ANSWERED),
        (error_of("slack_sdk.SlackApiError", response={"error": "ratelimited"}), ANSWERED),
        (error_of("slack_sdk.SlackApiError", response={"error": "fatal_error"}), FAILURE),
        (error_of("openai.APIError", body={"error": {"type": "server_error"}}), FAILURE),
        (error_of("anthropic.APIError", body={"error": {"type": "overloaded_error"}}), FAILURE),
    ],
    ids=repr,
)
def test_other_codes_and_texts(error, outcome):
    assert classify_error(error) is outcome


def test_codes_of_one_type_do_not_speak_for_another():
    transport = type_of("thrift.transport.TTransport.TTransportException")()
    transport.type = 4
    application = type_of("thrift.Thrift.TApplicationException")()
    application.type = 4
    assert classify_error(transport) is FAILURE
    assert classify_error(application) is ANSWERED


def close(code):
    return None if code is None else SimpleNamespace(code=code)


@pytest.mark.parametrize(
    ("received", "sent", "outcome"),
    [
        (None, None, FAILURE),
        (1011, None, FAILURE),
        (1012, 1012, FAILURE),
        (1001, None, FAILURE),
        (1008, 1008, ANSWERED),
        (4000, 4000, ANSWERED),
        (None, 1011, FAILURE),
        (None, 1009, IGNORED),
    ],
)
def test_close_codes_of_websockets(received, sent, outcome):
    name = "websockets.exceptions.ConnectionClosedError"
    assert classify_error(error_of(name, rcvd=close(received), sent=close(sent))) is outcome


def test_a_websocket_that_was_closed_in_good_order_is_ignored():
    name = "websockets.exceptions.ConnectionClosedOK"
    assert classify_error(error_of(name, rcvd=close(1000), sent=close(1000))) is IGNORED


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Received message 257:None is not WSMsgType.TEXT", FAILURE),
        ("Received message 8:1011 is not WSMsgType.TEXT", FAILURE),
        ("Received message 8:1008 is not WSMsgType.TEXT", ANSWERED),
        ("Received message 2:b'data' is not WSMsgType.TEXT", IGNORED),
    ],
)
def test_a_message_of_aiohttp_that_is_the_end_of_its_websocket(text, outcome):
    assert classify_error(error_of("aiohttp.WSMessageTypeError", text)) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (error_of("valkey.exceptions.ResponseError", "CLUSTERDOWN The cluster is down"), FAILURE),
        (error_of("redis.exceptions.ResponseError", "BUSY running a script"), FAILURE),
        (error_of("redis.exceptions.ResponseError", "BUSYGROUP name already exists"), ANSWERED),
        (error_of("nats.errors.Error", "nats: 'Authorization Violation'"), ANSWERED),
        (error_of("nats.errors.Error", "nats: 'maximum connections exceeded'"), FAILURE),
        (error_of("aiomqtt.MqttError", rc=SimpleNamespace(value=135)), ANSWERED),
        (error_of("aiomqtt.MqttError", rc=SimpleNamespace(value=136)), FAILURE),
        (error_of("aiomqtt.MqttError", rc=7), FAILURE),
        (error_of("aiomcache.ClientException", "get failed: b'SERVER_ERROR no'"), FAILURE),
        (error_of("aiomcache.ClientException", "get failed: b'CLIENT_ERROR no'"), ANSWERED),
        (error_of("imaplib.error", b"* BYE server shutting down"), FAILURE),
        (error_of("poplib.error_proto", b"-ERR [SYS/TEMP] down"), FAILURE),
        (error_of("poplib.error_proto", b"-ERR [AUTH] bad password"), ANSWERED),
        (error_of("pytds.OperationalError", number=6005), FAILURE),
        (error_of("pytds.LoginError", number=18456), ANSWERED),
        (error_of("pg8000.exceptions.DatabaseError", {"C": "57P01"}), FAILURE),
        (error_of("pg8000.exceptions.DatabaseError", {"C": "28P01"}), ANSWERED),
        (error_of("pg8000.exceptions.InterfaceError", "network error"), FAILURE),
        (error_of("pg8000.exceptions.InterfaceError", "connection is closed"), IGNORED),
    ],
    ids=repr,
)
def test_what_servers_say_in_words_of_their_own(error, outcome):
    assert classify_error(error) is outcome


# The codes themselves


class Odd(int):
    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None

    def __int__(self):
        raise RuntimeError("no number")


class OddText(str):
    __slots__ = ()

    def startswith(self, *args):
        raise RuntimeError("no beginning")


def test_a_code_is_compared_whatever_its_class_does():
    codes = Codes("code", outages=(7, "DOWN"), refusals=(range(1, 5),), others=Meaning.MISUSE)
    assert codes.meaning_of(Odd(7)) is Meaning.OUTAGE
    assert codes.meaning_of(Odd(3)) is Meaning.REFUSAL
    assert codes.meaning_of(OddText("DOWN_AGAIN")) is Meaning.OUTAGE
    assert codes.meaning_of("UP") is Meaning.MISUSE
    assert codes.meaning_of("7") is Meaning.MISUSE
    assert codes.meaning_of(8) is Meaning.MISUSE
    assert codes.meaning_of(None) is None
    assert codes.meaning_of(7.0) is None
