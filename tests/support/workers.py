"""Fleets of real processes for tests: started, told what to do, stopped, killed, and read."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from tests.support.fleet_worker import DOWN, HANGS, MOST_WORKERS, UP
from tests.support.stores import until

# A watchdog, never a measure of speed. Longer than any time-out of a probe here.
PATIENCE = 90.0
# More runnable threads for each core than this, and nobody answers in time.
_CROWDED = 4
_PROGRAM = Path(__file__).with_name("fleet_worker.py")


class Nursery:
    """Where worker processes come from; `where` is put before its command."""

    def __init__(self, *where):
        command = [*where, sys.executable, str(_PROGRAM)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self._lock = threading.Lock()

    def bear(self, options):
        with self._lock:
            self._process.stdin.write(json.dumps(options) + "\n")
            self._process.stdin.flush()

    def close(self):
        self._process.stdin.close()
        self._process.wait(PATIENCE)


class Worker:
    """This side of one process."""

    def __init__(self, connection):
        connection.settimeout(PATIENCE)
        self._connection, self._file = connection, connection.makefile("rw")
        self.who, self._pid = json.loads(self._file.readline())

    def tell(self, do, **arguments):
        self.begin(do, **arguments)
        return self.end()

    def begin(self, do, **arguments):
        self._file.write(json.dumps([do, arguments]) + "\n")
        self._file.flush()

    def end(self):
        said = self._file.readline()
        assert said, f"worker {self.who} has ended"
        return json.loads(said)

    def stop(self):
        os.kill(self._pid, signal.SIGSTOP)

    def wake(self):
        os.kill(self._pid, signal.SIGCONT)

    def kill(self):
        os.kill(self._pid, signal.SIGKILL)

    def close(self):
        with suppress(ProcessLookupError):
            self.wake()
        self._connection.close()
        with suppress(OSError):
            self._file.close()


class Fleet:
    """Some processes that share circuits, the regions that they call, and what has happened."""

    def __init__(
        self, nursery, *urls, regions=("region",), policy=None, policies=None, sharing=None
    ):
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-")
        self._regions = list(regions)
        self._path = Path(self._folder.name)
        (self._path / "journal").touch()
        (self._path / "modes").write_bytes(bytes([UP]) * MOST_WORKERS * len(self._regions))
        self._journal = (self._path / "journal").open()
        self._entries, self._rest = [], ""
        self.workers = []
        self.shares = any(urls)
        try:
            self._start(nursery, urls, policy or {}, policies or {}, sharing or {})
        except BaseException:
            self.close()
            raise

    def _start(self, nursery, urls, policy, policies, sharing):
        nurseries = nursery if isinstance(nursery, list) else [nursery] * len(urls)
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(self._path / "socket"))
            door.listen(len(urls))
            door.settimeout(PATIENCE)
            for who, (where, url) in enumerate(zip(nurseries, urls, strict=True)):
                where.bear(
                    {
                        "who": who, "folder": self._folder.name, "regions": self._regions,
                        "socket": str(self._path / "socket"), "url": url,
                        "policy": policy, "policies": policies, "sharing": sharing,
                    }
                )  # fmt: skip
            for _ in urls:
                self.workers.append(Worker(door.accept()[0]))
        self.workers.sort(key=lambda worker: worker.who)
        if self.shares:
            until(self.all_shared, "all share", PATIENCE)

    def close(self):
        for worker in self.workers:
            worker.close()
        self._journal.close()
        self._folder.cleanup()

    # What the regions do

    def set(self, mode, region=None, who=None):
        place = self._regions.index(region or self._regions[0]) * MOST_WORKERS
        with (self._path / "modes").open("r+b") as file:
            file.seek(place if who is None else place + who)
            file.write(bytes([mode]) * (MOST_WORKERS if who is None else 1))

    def up(self, region=None, who=None):
        self.set(UP, region, who)

    def down(self, region=None, who=None):
        self.set(DOWN, region, who)

    def hang(self, region=None, who=None):
        self.set(HANGS, region, who)

    # All processes

    def tell(self, do, **arguments):
        for worker in self.workers:
            worker.begin(do, **arguments)
        return [worker.end() for worker in self.workers]

    def states(self, region=None):
        return [seen[region or self._regions[0]]["state"] for seen in self.tell("look")]

    def all_shared(self):
        return all(one["shared"] for seen in self.tell("look") for one in seen.values())

    def counts(self):
        return self.tell("counts")

    # What has happened

    def journal(self):
        """Give everything so far, in its order."""
        *lines, self._rest = (self._rest + self._journal.read()).split("\n")
        self._entries += [json.loads(line) for line in lines]
        return self._entries

    def mark(self):
        """Give the place where the journal ends now."""
        return len(self.journal())

    def since(self, mark, *what, region=None, **having):
        """Give what has happened since, of this kind."""
        region = region or self._regions[0]
        return [
            entry
            for entry in self.journal()[mark:]
            if entry["what"] in what
            and (entry["region"] == region or entry["what"] in ("log", "late"))
            and all(entry.get(name) == value for name, value in having.items() if name != "text")
            and having.get("text", "") in entry.get("text", "")
        ]

    def calm(self, mark):
        """Whether all processes got their share of the cores since then.

        A process that waits too long for an answer may probe alone. Counts are therefore strict
        only where this is true.
        """
        crowded = os.getloadavg()[0] > _CROWDED * (os.cpu_count() or 1)
        return not (crowded or self.since(mark, "late"))

    def until(self, mark, what, count=1, patience=PATIENCE, **having):
        """Wait until this has happened so often since, by different processes."""

        def enough():
            found = self.since(mark, what, **having)
            first = {entry["who"]: entry for entry in reversed(found)}
            return sorted(first.values(), key=lambda entry: entry["t"]), len(first) >= count

        until(lambda: enough()[1], f"{count} x {what} {having}", patience)
        return enough()[0]


def at_a_time(entries):
    """Tell how many requests were on their way at a time, at most; none when it begins."""
    now = most = 0
    for entry in entries:
        now += {"request": 1, "answer": -1}.get(entry["what"], 0)
        most = max(most, now)
    return most
