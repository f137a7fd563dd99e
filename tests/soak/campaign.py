"""Scenarios that take real time: run side by side, each with servers and processes of its own."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

from tests.support.chaos_proxy import ChaosProxy
from tests.support.namespaces import TwoHosts
from tests.support.stores import SetUp, Store, binaries
from tests.support.workers import Fleet, Nursery

# More of them at a time would measure the machine.
AT_A_TIME = 6


class Site(SetUp):
    """What one scenario has started, and ends with it."""

    def __init__(self, server, nursery):
        super().__init__()
        self._binary, self._nursery = binaries()[server], nursery
        self.store = self.proxy = self.admin = None

    def _set_up(self):
        folder = self.enter_context(tempfile.TemporaryDirectory(prefix="store-"))
        self.store = Store(self._binary, folder)
        self.callback(self.store.kill)
        self.store.start()
        self.proxy = ChaosProxy(self.store.port)
        self.callback(self.proxy.close)
        self.admin = self.client()

    def fleet(self, workers, url=None, **options):
        """Start a fleet; without a URL each process has the store's own."""
        urls = url if isinstance(url, list) else [self.store.url if url is None else url] * workers
        fleet = Fleet(self._nursery, *urls, **options)
        self.callback(fleet.close)
        return fleet

    def client(self):
        """Give a connection to the store that no fault between it and a fleet touches."""
        return self.enter_context(self.store.client())


class Campaign:
    """Runs scenarios in threads, each once; each gives its figures, name -> seconds."""

    parameters = ("scenario", "server")

    def __init__(self, runs, at_a_time=AT_A_TIME):
        self._nursery = Nursery()
        self._pool = ThreadPoolExecutor(at_a_time)
        self._runs = {key: self._pool.submit(self.run, *key) for key in runs}

    @classmethod
    def of(cls, request):
        """Run what the selected tests of a module ask for."""
        tests = (item for item in request.session.items if item.path == request.path)
        chosen = (test.callspec.params for test in tests)
        possible = (params for params in chosen if params["server"] in binaries())
        return cls([tuple(params[name] for name in cls.parameters) for params in possible])

    def run(self, scenario, server):
        with Site(server, self._nursery) as site:
            return scenario(site)

    def result(self, *key):
        """Wait for a scenario and give its figures; raises what it has raised."""
        return self._runs[key].result()

    def close(self):
        self._pool.shutdown(cancel_futures=True)
        self._nursery.close()


class HalvesCampaign(Campaign):
    """The same with two hosts, and a way to cut them off."""

    parameters = ("scenario", "server", "way")

    def run(self, scenario, server, way):
        with TwoHosts(server) as hosts:
            return scenario(hosts, way)
