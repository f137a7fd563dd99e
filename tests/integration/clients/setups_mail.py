"""Clients of mail servers and FTP: most of them in the standard library."""

import ftplib
import imaplib
import poplib
import smtplib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import lines
from tests.integration.clients.wire.stream import greet

_MESSAGE = "Subject: x\r\n\r\nx"

# SMTP: codes from 500 on are the server's last word on this message, and say nothing about the
# server. The one that says that it goes is 421.
_SMTP = {
    "EHLO": "250-mail.example\r\n250 AUTH PLAIN LOGIN",
    "AUTH": "235 OK",
    "DATA": "354 go on",
    "QUIT": "221 bye",
    "": "250 OK",
}


def _smtp(verb, answer):
    return lines.dialogue("220 mail.example ESMTP", _SMTP | {verb: answer}, end_on="421")


_SMTP_BEHAVIOURS = {
    Situation.UNAVAILABLE: greet(b"421 4.3.2 mail.example Service not available\r\n"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: lines.cutting("220 mail.example ESMTP", "250-mail.exa"),
}
_SMTP_OUTAGES = {
    "421 to the sender": _smtp("MAIL", "421 4.3.2 Service shutting down"),
    "421 to the message": _smtp("MESSAGE", "421 4.3.2 Service shutting down"),
    # What checks the passwords is down, not the password wrong.
    "454 cannot check the password": _smtp("AUTH", "454 4.7.0 Temporary authentication failure"),
}
_SMTP_REFUSALS = {
    "535 wrong password": _smtp("AUTH", "535 5.7.8 Authentication credentials invalid"),
    "530 authentication required": _smtp("MAIL", "530 5.7.0 Authentication required"),
    "550 no such recipient": _smtp("RCPT", "550 5.1.1 no such user"),
    # Greylisting: come back later, the like of a 429.
    "450 come back later": _smtp("RCPT", "450 4.2.0 greylisted"),
    "553 sender refused": _smtp("MAIL", "553 5.1.7 address rejected"),
    "552 message too large": _smtp("MESSAGE", "552 5.3.4 message too large"),
    "554 looks like spam": _smtp("MESSAGE", "554 5.7.1 rejected"),
    "503 bad sequence": _smtp("MAIL", "503 5.5.1 bad sequence of commands"),
}


def _smtplib(host, port):
    with smtplib.SMTP(host, port, timeout=timeout()) as client:
        client.login("u", "p")
        client.sendmail("a@example.com", ["b@example.com"], _MESSAGE)


def _smtplib_closed(host, port):
    smtplib.SMTP(timeout=timeout()).sendmail("a@example.com", ["b@example.com"], _MESSAGE)


async def _aiosmtplib(host, port):
    import aiosmtplib

    await aiosmtplib.send(
        _MESSAGE,
        hostname=host,
        port=port,
        username="u",
        password="p",
        start_tls=False,
        sender="a@example.com",
        recipients=["b@example.com"],
        timeout=timeout(),
    )


async def _aiosmtplib_wrong_argument(host, port):
    import aiosmtplib

    await aiosmtplib.send(_MESSAGE, hostname=host, port=port, timeout=timeout())


# IMAP

_IMAP = {
    "tagged": "yes",
    "CAPABILITY": "* CAPABILITY IMAP4rev1\r\n{tag} OK done",
    "LOGOUT": "* BYE bye\r\n{tag} OK bye",
    "": "{tag} OK done",
}


def _imap(verb, answer, **settings):
    return lines.dialogue("* OK ready", _IMAP | {verb: answer}, **settings)


def _imaplib(host, port):
    with imaplib.IMAP4(host, port, timeout=timeout()) as client:
        client.login("u", "p")
        client.select()


def _imaplib_wrong_state(host, port):
    with (
        serving(lines.dialogue("* OK ready", _IMAP)) as server,
        imaplib.IMAP4(host, server.port, timeout=timeout()) as client,
    ):
        client.search(None, "ALL")


# POP3


def _pop(verb, answer):
    return lines.dialogue("+OK ready", {"": "+OK", verb: answer})


def _poplib(host, port):
    client = poplib.POP3(host, port, timeout=timeout())
    try:
        client.user("u")
        client.pass_("p")
        client.stat()
    finally:
        client.close()


# FTP


def _ftp(verb, answer):
    answers = {"USER": "331 go on", "PASS": "230 OK", "QUIT": "221 bye", "": "200 OK"}
    return lines.dialogue("220 ready", answers | {verb: answer}, end_on="421")


def _ftplib(host, port):
    client = ftplib.FTP(timeout=timeout())
    try:
        client.connect(host, port)
        client.login("u", "p")
        client.cwd("folder")
    finally:
        client.close()


def _ftplib_closed(host, port):
    ftplib.FTP(timeout=timeout()).cwd("folder")


SETUPS = (
    ClientSetup(
        name="smtplib",
        distributions=(),
        call=_smtplib,
        behaviours=_SMTP_BEHAVIOURS,
        outages=_SMTP_OUTAGES,
        refusals=_SMTP_REFUSALS,
        misuse={"not connected": _smtplib_closed},
    ),
    ClientSetup(
        name="aiosmtplib",
        distributions=("aiosmtplib",),
        call=_aiosmtplib,
        behaviours=_SMTP_BEHAVIOURS,
        outages=_SMTP_OUTAGES,
        refusals=_SMTP_REFUSALS,
        misuse={"wrong argument": _aiosmtplib_wrong_argument},
    ),
    ClientSetup(
        name="imaplib",
        distributions=(),
        call=_imaplib,
        behaviours={
            Situation.UNAVAILABLE: greet(b"* BYE server shutting down\r\n"),
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: lines.cutting("* OK ready", "* CAPABIL"),
        },
        outages={
            "BYE": _imap("LOGIN", "* BYE server shutting down", end_on="* BYE"),
            # RFC 5530: a subsystem that the login needs is down.
            "NO UNAVAILABLE": _imap("LOGIN", "{tag} NO [UNAVAILABLE] user store is down"),
        },
        refusals={
            "wrong password": _imap("LOGIN", "{tag} NO [AUTHENTICATIONFAILED] wrong password"),
            "bad command": _imap("SELECT", "{tag} BAD no such command"),
        },
        misuse={"wrong state": _imaplib_wrong_state},
    ),
    ClientSetup(
        name="poplib",
        distributions=(),
        call=_poplib,
        behaviours={
            Situation.UNAVAILABLE: greet(b"-ERR [SYS/TEMP] server is shutting down\r\n"),
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: lines.cutting("+OK ready", "+O"),
        },
        refusals={
            "wrong password": _pop("PASS", "-ERR [AUTH] wrong password"),
            "the mailbox is locked": _pop("PASS", "-ERR [IN-USE] locked"),
            "bad command": _pop("STAT", "-ERR no such command"),
        },
    ),
    ClientSetup(
        name="ftplib",
        distributions=(),
        call=_ftplib,
        behaviours={
            Situation.UNAVAILABLE: greet(b"421 too many users, try again later\r\n"),
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: lines.cutting("220 ready", "331 g"),
        },
        outages={"421 to a command": _ftp("CWD", "421 Service not available")},
        refusals={
            "530 wrong password": _ftp("PASS", "530 login incorrect"),
            "550 no such folder": _ftp("CWD", "550 no such file or directory"),
            "450 busy": _ftp("CWD", "450 file busy"),
            "502 not implemented": _ftp("CWD", "502 not implemented"),
            "503 bad sequence": _ftp("CWD", "503 bad sequence of commands"),
        },
        misuse={"not connected": _ftplib_closed},
    ),
)
