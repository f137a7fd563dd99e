"""The faults that were found at the edges of the message workers, each provoked on a real broker.

    python -m tests.soak.rabbitmq_faults [--quick] [FAULT...]

plays them one after the other on a broker of its own, and prints a JSON object: for each fault,
what has been seen, and whether the promise was kept. The code that is tested is the `resilience`
that Python finds: the soak plays the same faults with the code as it was before they were mended.
Nothing here therefore uses what that code did not have, unless it says so.
"""

from tests.soak.rabbitmq_faults.broker import conditions, memory_alarm, stopping
from tests.soak.rabbitmq_faults.messages import cannot_be_copied, poison, told_to_wait
from tests.soak.rabbitmq_faults.misuse import misuse
from tests.soak.rabbitmq_faults.queues import (
    held_failures,
    queue_away,
    queue_that_deletes_itself,
)
from tests.soak.rabbitmq_faults.rights import no_right_to_configure, no_right_to_publish

FAULTS = {
    "cannot be copied": cannot_be_copied,
    "no right to publish": no_right_to_publish,
    "held failures": held_failures,
    "memory alarm": memory_alarm,
    "queue away": queue_away,
    "queue that deletes itself": queue_that_deletes_itself,
    "poison": poison,
    "told to wait": told_to_wait,
    "conditions": conditions,
    "stopping": stopping,
    "no right to configure": no_right_to_configure,
    "misuse": misuse,
}
