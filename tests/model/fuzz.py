"""Try input of all kinds that a stranger may send, until the time is over: `make fuzz`.

Stops at the first input that harms something, and prints it.
"""

import sys
import time

from hypothesis import HealthCheck, Phase, given, settings
from loguru import logger

from tests.model import hostile_input as hostile

ROUND = 500  # examples of one kind before it is the turn of the next


def main(minutes):
    logger.remove()
    page = hostile.Page()
    checks = [
        given(hostile.TEXTS, hostile.TEXTS)(hostile.check_names),
        given(hostile.TEXTS)(hostile.check_reasons),
        given(hostile.ERRORS)(hostile.check_errors),
        given(hostile.HEADERS)(hostile.check_headers),
        given(hostile.st.lists(hostile.REPLIES, max_size=5))(hostile.check_records),
        given(hostile.REQUESTS)(lambda request: hostile.check_requests(page, request)),
    ]
    configure = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    checks = [configure(check) for check in checks]
    end = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < end:
            for check in checks:
                check()
    finally:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in hostile.tried.items())
        print(f"fuzz: tried {counts}")
        page.close()
    print(f"fuzz: nothing found in {minutes:g} minutes")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
