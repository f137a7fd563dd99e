"""One process of a fleet, told over its standard input what to do; it answers in JSON.

python sharing_worker.py URL '{"quorum": 2, "policy": {"recovery_timeout": 1.0}}'
"""

import json
import os
import sys
import time

from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.redis import RedisSharing

REGION = "eu-west-1"


class Worker:
    def __init__(self, url, options):
        policy = BreakerPolicy(**options.pop("policy", {}))
        self.registry = CircuitBreakerRegistry(policy, sharing=RedisSharing(url, **options))
        self.events = []
        self.registry.listen(lambda e: self.events.append([str(e.old), str(e.new), e.reason, e.by]))
        self.breaker = self.registry.get(REGION)
        self.held = None

    def fail(self, times=1):
        for _ in range(times):
            self.breaker.acquire().fail(TimeoutError())

    def call(self, how="succeed"):
        try:
            getattr(self.breaker.acquire(), how)()
        except CircuitBreakerOpenError as error:
            return error.retry_after
        return "called"

    def hold(self):
        """Begin a call, and keep it."""
        try:
            self.held = self.breaker.acquire()
        except CircuitBreakerOpenError as error:
            return error.retry_after
        return "called"

    def settle(self, how):
        getattr(self.held, how)()

    def reset(self):
        self.breaker.reset()

    def force_open(self):
        self.breaker.force_open("maintenance")

    def seen(self):
        snapshot = self.breaker.snapshot()
        return {
            "state": str(snapshot.state), "shared": snapshot.shared, "reason": snapshot.reason,
            "retry_after": snapshot.retry_after, "events": self.events, "pid": os.getpid(),
            "probes": snapshot.probes,
        }  # fmt: skip

    def fork(self):
        """Fork a child that calls once, and then tells when it has heard of an opening."""
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            self._be_a_child(write)
        os.close(write)
        self.child = read
        return json.loads(self._line_of_child())

    def child_says(self):
        return json.loads(self._line_of_child())

    def _line_of_child(self):
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.child, 1)
            assert byte, "the child has ended"
            line += byte
        return line

    def _be_a_child(self, write):
        def say(what):
            os.write(write, json.dumps(what).encode() + b"\n")

        def wait_for(condition):
            end = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < end
                time.sleep(0.002)

        try:
            shared_at_first = self.breaker.snapshot().shared
            self.breaker.acquire().succeed()
            wait_for(lambda: self.breaker.snapshot().shared)
            say({"shared_at_first": shared_at_first})
            wait_for(lambda: self.events and self.breaker.state == "OPEN")
            say({"events": self.events[-1:], "pid": os.getpid()})
        finally:
            os._exit(0)

    def close(self):
        self.registry.close()


def main():
    logger.remove()
    worker = Worker(sys.argv[1], json.loads(sys.argv[2]))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(worker, name)(*arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
