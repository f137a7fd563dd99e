"""An asyncio loop for real I/O in which no time passes unless the test says so."""

import asyncio


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its timeouts expire in `advance` only, however slow the machine is."""

    def __init__(self):
        super().__init__()
        self._stepped_time = 0.0

    def time(self):
        return self._stepped_time

    def step(self, seconds):
        self._stepped_time += seconds


def run_in_stepped_time(coroutine):
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(coroutine)


async def advance(seconds):
    """Let this much time pass, and let each timeout that expires by it take effect."""
    asyncio.get_running_loop().step(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition):
    """Let everything run until it is so, or the watchdog ends the test."""
    while not condition():  # noqa: ASYNC110 - the servers have no event for it
        await asyncio.sleep(0)
