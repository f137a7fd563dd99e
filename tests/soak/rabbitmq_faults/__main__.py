"""Plays the faults on a broker of its own; see the package."""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time

from loguru import logger

from tests.soak.rabbitmq_faults import FAULTS
from tests.soak.rabbitmq_faults.site import Site
from tests.support import rabbitmq_broker


async def play(site, names):
    """Play some faults; return what was seen of each by its name."""
    seen = {}
    for name in names:
        began = time.monotonic()
        seen[name] = await FAULTS[name](site)
        print(f"{name}: {seen[name]}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS])
    options = parser.parse_args()
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logger.remove()
    broker = rabbitmq_broker.started_broker()
    try:
        site = Site(broker, quick=options.quick)
        seen = asyncio.run(play(site, options.faults or FAULTS))
        version = broker.ctl("version").strip()
    finally:
        broker.close()
    faults = {name: vars(one) for name, one in seen.items()}
    print(json.dumps({"version": version, "faults": faults}))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # It ends its broker.
    main()
