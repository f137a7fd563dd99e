"""Mail, files, shells, directories, and remote procedures."""

from resilience.classify.library import ClientLibrary, Codes, Meaning

_OUTAGE, _REFUSAL, _MISUSE = Meaning.OUTAGE, Meaning.REFUSAL, Meaning.MISUSE


def _smtp(path: str) -> Codes:
    """Return what the replies of a mail server mean: its 5xx refuse a message for good."""
    return Codes(path, outages=(421, 454), throttling=(450, 451, 452), refusals=(range(400, 600),))


PROTOCOLS = (
    ClientLibrary(
        name="Python: smtplib",
        packages=("smtplib",),
        outages=("SMTPServerDisconnected",),
        refusals=("SMTPNotSupportedError", "SMTPRecipientsRefused"),
        codes=(_smtp("smtp_code"),),
        texts=(("please run connect() first", _MISUSE),),
        has_http_status=False,
        advice="`timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="aiosmtplib",
        packages=("aiosmtplib",),
        refusals=("SMTPNotSupported", "SMTPRecipientsRefused"),
        codes=(_smtp("code"),),
        has_http_status=False,
    ),
    ClientLibrary(
        name="Python: ftplib",
        packages=("ftplib",),
        outages=("error_proto",),
        # The reply begins with its code.
        codes=(Codes("args[0]", outages=("421", "425", "426"), refusals=("4", "5")),),
        has_http_status=False,
        advice="`timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="aioftp",
        packages=("aioftp",),
        codes=(Codes("received_codes[0]", outages=("421", "425", "426"), refusals=("4", "5")),),
        local=("NoAvailablePort",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="Python: imaplib, poplib, nntplib, telnetlib",
        packages=("imaplib", "poplib", "nntplib", "telnetlib"),
        outages=("abort", "NNTPDataError"),
        refusals=("NNTPPermanentError", "NNTPTemporaryError", "error", "error_proto", "readonly"),
        texts=(
            ("illegal in state", _MISUSE),
            ("BYE", _OUTAGE),
            ("[UNAVAILABLE]", _OUTAGE),
            ("[SERVERBUG]", _OUTAGE),
            ("[SYS/", _OUTAGE),
            ("-ERR EOF", _OUTAGE),
            ("line too long", _OUTAGE),
            ("400 ", _OUTAGE),
        ),
        has_http_status=False,
        advice="`timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="aioimaplib",
        packages=("aioimaplib",),
        outages=("Abort", "CommandTimeout", "IncompleteRead"),
        refusals=("Error",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="Python: xmlrpc.client",
        packages=("xmlrpc",),
        outages=("ResponseError",),
        refusals=("Fault",),
        status=("errcode",),
    ),
    ClientLibrary(
        name="paramiko",
        packages=("paramiko",),
        outages=("NoValidConnectionsError", "ProxyCommandFailure", "SSHException"),
        refusals=("AuthenticationException", "BadHostKeyException", "ChannelException"),
        misuse=("ConfigParseError", "PasswordRequiredException"),
        texts=(
            ("key file", _MISUSE),
            ("not found in known_hosts", _REFUSAL),
            ("transport shut down", _OUTAGE),
        ),
        wrapped=("errors",),
        has_http_status=False,
        advice="`timeout=`, `banner_timeout=` and `auth_timeout=`.",
    ),
    ClientLibrary(
        name="asyncssh",
        packages=("asyncssh",),
        outages=("DisconnectError", "SFTPConnectionLost", "SFTPNoConnection"),
        refusals=(
            "ChannelOpenError",
            "HostKeyNotVerifiable",
            "IllegalUserName",
            "PermissionDenied",
            "ProcessError",
            "SFTPError",
        ),
        texts=(("authentication failures", _REFUSAL),),
        has_http_status=False,
        advice="`connect_timeout=` and `login_timeout=`.",
    ),
    ClientLibrary(
        name="ldap3, python-ldap, bonsai",
        packages=("ldap3", "ldap", "bonsai"),
        outages=(
            "BUSY",
            "CONNECT_ERROR",
            "ConnectionError",
            "LDAPBusyResult",
            "LDAPCommunicationError",
            "LDAPMaximumRetriesError",
            "LDAPResponseTimeoutError",
            "LDAPServerPoolExhaustedError",
            "LDAPStartTLSError",
            "LDAPUnavailableResult",
            "SERVER_DOWN",
            "TIMEOUT",
            "TimeoutError",
            "UNAVAILABLE",
        ),
        refusals=(
            "AuthenticationError",
            "INVALID_CREDENTIALS",
            "INSUFFICIENT_ACCESS",
            "LDAPBindError",
            "LDAPOperationResult",
            "NO_SUCH_OBJECT",
        ),
        has_http_status=False,
        advice="`connect_timeout=` and `receive_timeout=`: there are none by default.",
    ),
    ClientLibrary(
        name="pysnmp",
        packages=("pysnmp",),
        outages=("RequestTimedOut",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="thrift, thriftpy2, PyHive",
        packages=("thrift", "thriftpy2", "pyhive"),
        codes=(
            Codes("type", outages=(0, 1, 3, 4), types=("TTransportException",)),
            Codes("type", outages=(6,), others=_REFUSAL, types=("TApplicationException",)),
        ),
        has_http_status=False,
        advice="`socket.setTimeout()`: there is none by default.",
    ),
    ClientLibrary(
        name="zeroc-ice",
        packages=("Ice",),
        outages=("DNSException", "ProtocolException", "SocketException", "TimeoutException"),
        refusals=("RequestFailedException",),
        misuse=("CommunicatorDestroyedException",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="asyncua (OPC UA)",
        packages=("asyncua",),
        outages=(
            "BadCommunicationError",
            "BadConnectionClosed",
            "BadConnectionRejected",
            "BadNoCommunication",
            "BadOutOfService",
            "BadRequestTimeout",
            "BadSecureChannelClosed",
            "BadServerHalted",
            "BadServerNotConnected",
            "BadShutdown",
            "BadTimeout",
        ),
        throttling=("BadTooManyOperations", "BadTooManySessions"),
        refusals=("UaStatusCodeError",),
        has_http_status=False,
    ),
)
