"""What the tests of many callers share."""

import gc
import sys
import threading

from resilience import BreakerPolicy
from resilience.log import Once

NEVER_TRIPS = BreakerPolicy(failure_threshold=10**9)


def is_ours(thing):
    where = type(thing).__module__ if type(type(thing)) is type else ""
    return (
        isinstance(where, str)
        and where.partition(".")[0] == "resilience"
        and "testing" not in where
    )


def locks_inside(thing):
    """Find the locks that a registry or a module of the package reaches through what is ours."""
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    modules = [
        vars(module).values() for name, module in sys.modules.items() if "resilience" in name
    ]
    found, seen, rest = {}, set(), [thing, *(value for values in modules for value in values)]
    while rest:
        thing = rest.pop()
        if id(thing) in seen or type(thing) is Once:  # nobody waits for its lock
            continue
        seen.add(id(thing))
        if issubclass(type(thing), kinds):  # its `__class__` may be anything
            found[id(thing)] = thing
        elif is_ours(thing) or type(thing) in (dict, list, tuple, set):
            rest.extend(gc.get_referents(thing))
    return list(found.values())


async def send(make_error):
    if make_error:
        raise make_error()
