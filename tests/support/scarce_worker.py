"""A process that runs out of descriptors or threads, and gets some again; it answers in JSON.

python scarce_worker.py URL descriptors|threads new|fork
"""

import json
import os
import re
import resource
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.integrations.redis import RedisSharing

REGION = "eu-west-1"


@contextmanager
def limited(what, soft):
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (hard, hard))


def without_descriptors():
    free = os.dup(0)
    os.close(free)
    return limited(resource.RLIMIT_NOFILE, free)


def without_threads():
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    # There is no room for the stack of a thread, and none is left from one that has ended.
    threading.stack_size(2**26)
    return limited(resource.RLIMIT_AS, used + 2**22)


LIMITS = {"descriptors": without_descriptors, "threads": without_threads}


def call_with_little_and_then_with_enough(registry, limit):
    """Make calls that must not fail; returns what was seen."""

    @region_breaker(region_from=lambda: REGION, registry=registry)
    def fine():
        return "fine"

    @region_breaker(region_from=lambda: "us-east-1", registry=registry)
    def fails():
        raise TimeoutError

    with limit():
        answers = [fine() for _ in range(5)]
        for _ in range(2):
            try:
                fails()
            except TimeoutError:
                answers.append("failed")
    alone = [breaker.snapshot().shared for breaker in registry]
    states = [str(breaker.state) for breaker in registry]
    answers.append(fine())
    end = time.monotonic() + 60
    while not all(breaker.snapshot().shared for breaker in registry):
        assert time.monotonic() < end, "never shared"
        time.sleep(0.002)
    answers.append(fine())
    return {"answers": answers, "shared_without": alone, "states_without": states}


def main():
    url, what, how = sys.argv[1:]
    lines = []
    logger.remove()
    logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    policy = BreakerPolicy(failure_threshold=2, recovery_timeout=600.0)
    registry = CircuitBreakerRegistry(policy, sharing=RedisSharing(url))
    if how == "fork":
        for region in (REGION, "us-east-1"):
            breaker = registry.get(region)
            while not breaker.snapshot().shared:
                time.sleep(0.002)
        if (child := os.fork()) != 0:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    seen = call_with_little_and_then_with_enough(registry, LIMITS[what])
    seen["lines"] = [line for line in lines if "sharing" in line]
    print(json.dumps(seen), flush=True)
    registry.close()


if __name__ == "__main__":
    main()
