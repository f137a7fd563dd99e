"""Clients of ZooKeeper, LDAP, SSH, Thrift and DNS, and plain streams."""

import contextlib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import dns as dns_wire
from tests.integration.clients.wire import ldap, ssh, thrift, zookeeper
from tests.integration.clients.wire.stream import greet, reset_after_data

# ZooKeeper


def _kazoo(host, port):
    with _zookeeper(host, port) as client:
        client.start(timeout=2 * timeout())
        client.get_async("/provoked").get(timeout=2 * timeout())


@contextlib.contextmanager
def _zookeeper(host, port):
    import kazoo.client
    import kazoo.retry

    never = kazoo.retry.KazooRetry(max_tries=0)
    client = kazoo.client.KazooClient(
        f"{host}:{port}", timeout=timeout(), connection_retry=never, command_retry=never
    )
    try:
        yield client
    finally:
        client.stop()
        client.close()


def _kazoo_closed(host, port):
    with _zookeeper(host, port) as client:
        client.get("/provoked")


def _kazoo_wrong_argument(host, port):
    with _zookeeper(host, port) as client:
        client.get(1)


# LDAP


def _ldap3(host, port):
    import ldap3

    seconds = max(1, int(timeout()))  # it takes whole seconds
    server = ldap3.Server(host, port, connect_timeout=seconds, get_info=ldap3.NONE)
    connection = ldap3.Connection(
        server, "cn=u", "p", receive_timeout=seconds, raise_exceptions=True
    )
    try:
        connection.bind()
        connection.search("dc=provoked", "(cn=x)")
    finally:
        with contextlib.suppress(Exception):
            connection.unbind()


def _ldap3_wrong_filter(host, port):
    import ldap3

    with serving(ldap.answering()) as server:
        at = ldap3.Server(host, server.port, get_info=ldap3.NONE)
        with ldap3.Connection(at, "cn=u", "p", raise_exceptions=True) as connection:
            connection.search("dc=provoked", "no filter")


# SSH


def _paramiko(host, port):
    with _ssh_client() as client:
        client.connect(host, port, **_ssh_login())
        _, answer, _ = client.exec_command("provoked", timeout=timeout())
        answer.read()


def _ssh_login():
    return {
        "username": "u",
        "password": "p",
        "timeout": timeout(),
        "banner_timeout": timeout(),
        "auth_timeout": 10 * timeout(),
        "look_for_keys": False,
        "allow_agent": False,
    }


def _ssh_client():
    import paramiko

    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.MissingHostKeyPolicy())
    return client


def _paramiko_closed(host, port):
    with _ssh_client() as client:
        client.exec_command("provoked")


async def _asyncssh(host, port):
    import asyncssh

    options = {"username": "u", "password": "p", "known_hosts": None, "config": None}
    times = {"connect_timeout": timeout(), "login_timeout": 10 * timeout()}
    async with asyncssh.connect(host, port, **options, **times) as connection:
        await connection.run("provoked", check=True)


async def _asyncssh_wrong_key(host, port):
    import asyncssh

    await asyncssh.connect(host, port, client_keys=["/no/such/file"], config=None)


# Thrift


def _thrift(host, port):
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift.Thrift import TApplicationException, TMessageType

    with _thrift_transport(host, port) as transport:
        protocol = TBinaryProtocol(transport)
        protocol.writeMessageBegin("provoked", TMessageType.CALL, 0)
        protocol.writeStructBegin("arguments")
        protocol.writeFieldStop()
        protocol.writeMessageEnd()
        transport.flush()
        # What the code does that the compiler makes.
        _, kind, _ = protocol.readMessageBegin()
        if kind == TMessageType.EXCEPTION:
            error = TApplicationException()
            error.read(protocol)
            raise error


@contextlib.contextmanager
def _thrift_transport(host, port):
    from thrift.transport import TSocket, TTransport

    connection = TSocket.TSocket(host, port)
    connection.setTimeout(int(timeout() * 1000))
    transport = TTransport.TBufferedTransport(connection)
    transport.open()
    try:
        yield transport
    finally:
        transport.close()


# DNS


def _dns(host, port):
    _resolver(host, port).resolve("provoked.example", "A", tcp=True)


def _resolver(host, port):
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [host]
    resolver.port = port
    resolver.timeout = resolver.lifetime = timeout()
    return resolver


def _dns_wrong_name(host, port):
    _resolver(host, port).resolve("provoked..example", "A", tcp=True)


# Plain streams


async def _anyio(host, port):
    import anyio.streams.buffered

    with anyio.fail_after(timeout()):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"x")
            reader = anyio.streams.buffered.BufferedByteReceiveStream(stream)
            return await reader.receive_exactly(100)


async def _anyio_receive(host, port):
    import anyio

    with anyio.fail_after(timeout()):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"x")
            while True:
                await stream.receive()


async def _anyio_closed(host, port):
    import anyio

    stream = await anyio.connect_tcp(host, port)
    await stream.aclose()
    await stream.send(b"x")


def _trio(host, port):
    import trio

    async def receive():
        with trio.fail_after(timeout()):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()

    trio.run(receive)


def _trio_closed(host, port):
    import trio

    async def send():
        stream = await trio.open_tcp_stream(host, port)
        await stream.aclose()
        await stream.send_all(b"x")

    trio.run(send)


_STREAM = {
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: greet(b"half"),
}
_NO_ANSWER_OF_ITS_OWN = {Situation.UNAVAILABLE: "plain bytes have no answer that says so"}

SETUPS = (
    ClientSetup(
        name="kazoo",
        distributions=("kazoo",),
        call=_kazoo,
        behaviours={
            # A server that has no quorum accepts, and closes at the first request.
            Situation.UNAVAILABLE: zookeeper.dropping_requests,
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: zookeeper.cutting,
        },
        outages={
            "-4 connection loss": zookeeper.refusing(-4),
            "-7 operation time-out": zookeeper.refusing(-7),
        },
        refusals={
            "-101 no such node": zookeeper.refusing(-101),
            "-102 no permission": zookeeper.refusing(-102),
            "-103 another version": zookeeper.refusing(-103),
            "-110 node exists": zookeeper.refusing(-110),
            "-8 wrong argument": zookeeper.refusing(-8),
        },
        misuse={"not started": _kazoo_closed, "wrong argument": _kazoo_wrong_argument},
    ),
    ClientSetup(
        name="ldap3",
        distributions=("ldap3",),
        call=_ldap3,
        behaviours={
            Situation.UNAVAILABLE: ldap.answering(bind=52),
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: ldap.cutting,
        },
        outages={
            "51 busy": ldap.answering(bind=51),
            "52 unavailable, to a search": ldap.answering(search=52),
            "a search that hangs": ldap.silent,
        },
        refusals={
            "49 wrong password": ldap.answering(bind=49),
            "50 permission denied": ldap.answering(search=50),
            "32 no such object": ldap.answering(search=32),
            "53 unwilling": ldap.answering(search=53),
            "2 protocol error": ldap.answering(search=2),
            "34 wrong name": ldap.answering(search=34),
            "19 constraint": ldap.answering(search=19),
            # The like of a 429.
            "11 administrator's limit": ldap.answering(search=11),
        },
        misuse={"wrong filter": _ldap3_wrong_filter},
    ),
    ClientSetup(
        name="paramiko",
        distributions=("paramiko",),
        call=_paramiko,
        behaviours={
            Situation.UNAVAILABLE: ssh.too_many,
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: ssh.half_a_banner,
        },
        outages={"disconnected, 7 service not available": ssh.disconnecting(7)},
        refusals={"wrong password": ssh.admitting("another")},
        misuse={"not connected": _paramiko_closed},
    ),
    ClientSetup(
        name="asyncssh",
        distributions=("asyncssh",),
        call=_asyncssh,
        behaviours={
            Situation.UNAVAILABLE: ssh.too_many,
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: ssh.half_a_banner,
        },
        outages={
            "disconnected, 7 service not available": ssh.disconnecting(7),
            "disconnected, 11 by application": ssh.disconnecting(11),
            "disconnected, 12 too many connections": ssh.disconnecting(12),
        },
        refusals={"wrong password": ssh.admitting("another")},
        misuse={"no such key": _asyncssh_wrong_key},
    ),
    ClientSetup(
        name="thrift",
        distributions=("thrift",),
        call=_thrift,
        behaviours={
            Situation.UNAVAILABLE: thrift.answering(6),  # INTERNAL_ERROR
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: thrift.cutting,
        },
        refusals={
            "1 unknown method": thrift.answering(1),
            "7 protocol error": thrift.answering(7),
        },
    ),
    ClientSetup(
        name="dnspython",
        distributions=("dnspython",),
        call=_dns,
        behaviours={
            Situation.UNAVAILABLE: dns_wire.answering(2),  # SERVFAIL
            Situation.DROPPING: drop,
            Situation.HANGING: hang,
            Situation.CUTTING: dns_wire.cutting,
        },
        refusals={
            "3 no such name": dns_wire.answering(3),
            "no such record": dns_wire.answering(0),
        },
        misuse={"wrong name": _dns_wrong_name},
    ),
    ClientSetup(
        name="anyio, receive_exactly()",
        distributions=("anyio",),
        call=_anyio,
        behaviours=_STREAM,
        left_out=_NO_ANSWER_OF_ITS_OWN,
        misuse={"closed stream": _anyio_closed},
    ),
    ClientSetup(
        name="anyio, receive()",
        distributions=("anyio",),
        call=_anyio_receive,
        behaviours=_STREAM,
        left_out=_NO_ANSWER_OF_ITS_OWN,
    ),
    ClientSetup(
        name="trio",
        distributions=("trio",),
        call=_trio,
        behaviours={Situation.HANGING: hang, Situation.DROPPING: reset_after_data},
        left_out=_NO_ANSWER_OF_ITS_OWN
        | {Situation.CUTTING: "no error: receive_some() returns no bytes at the end"},
        misuse={"closed stream": _trio_closed},
    ),
)
