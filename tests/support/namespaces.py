"""Two hosts and a store between them, as network namespaces whose cables can be cut."""

import tempfile
from contextlib import suppress

import redis

from tests.support.ip import NoNamespacesError, ip, name_of
from tests.support.stores import SetUp, Store, binaries
from tests.support.workers import Fleet, Nursery


class HubStore(Store):
    """A store in a namespace, which the test reaches through a file."""

    def __init__(self, namespace, binary, folder):
        self._file = f"{folder}/store"
        super().__init__(binary, folder, "--unixsocket", self._file, "--protected-mode", "no")
        self._command[self._command.index("127.0.0.1")] = "0.0.0.0"
        self._command = ["ip", "netns", "exec", namespace, *self._command]

    def client(self, **options):
        return redis.Redis(unix_socket_path=self._file, socket_timeout=10.0, **options)


class TwoHosts(SetUp):
    """Hosts 1 and 2, each with a cable to the hub, where the store is."""

    def __init__(self, server):
        super().__init__()
        self._binary = binaries()[server]

    def _set_up(self):
        self._hub, *self._hosts = (self._namespace(role) for role in ("hub", "1", "2"))
        for number, host in enumerate(self._hosts, 1):
            cable = ("link", "add", "name", f"to{number}", "netns", self._hub, "type", "veth")
            ip(*cable, "peer", "name", "eth0", "netns", host)
            for where, device, end in ((self._hub, f"to{number}", 1), (host, "eth0", 2)):
                ip("-n", where, "addr", "add", f"10.77.{number}.{end}/24", "dev", device)
                ip("-n", where, "link", "set", device, "up")
        folder = self.enter_context(tempfile.TemporaryDirectory(prefix="store-"))
        self.store = HubStore(self._hub, self._binary, folder)
        self.callback(self.store.kill)
        self.store.start()
        self._nurseries = [Nursery("ip", "netns", "exec", host) for host in self._hosts]
        for nursery in self._nurseries:
            self.callback(nursery.close)

    def fleet(self, on_each, **options):
        """Start so many processes on each host."""
        numbers = [number for number in (1, 2) for _ in range(on_each)]
        urls = [f"redis://10.77.{number}.1:{self.store.port}" for number in numbers]
        nurseries = [self._nurseries[number - 1] for number in numbers]
        fleet = Fleet(nurseries, *urls, **options)
        self.callback(fleet.close)
        return fleet

    def cut(self, number):
        """Cut a host off: the cable is pulled."""
        ip("-n", self._hub, "link", "set", f"to{number}", "down")

    def heal(self, number):
        ip("-n", self._hub, "link", "set", f"to{number}", "up")

    def swallow(self, number):
        """Cut a host off: the store's answers get lost, and nobody is told."""
        ip("-n", self._hub, "route", "add", "blackhole", f"10.77.{number}.2/32")

    def stop_swallowing(self, number):
        ip("-n", self._hub, "route", "del", "blackhole", f"10.77.{number}.2/32")

    def _namespace(self, role):
        name = name_of(role)
        ip("netns", "add", name)
        self.callback(self._delete, name)
        return name

    def _delete(self, name):
        with suppress(NoNamespacesError):
            ip("netns", "del", name)
