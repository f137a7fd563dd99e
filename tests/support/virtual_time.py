"""An asyncio loop in which time passes as soon as everybody sleeps: order without a real clock."""

import asyncio


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that do no I/O and use no threads."""

    def __init__(self):
        super().__init__()
        self._virtual_time = 0.0
        select = self._selector.select

        def skip(timeout):
            assert timeout is not None, "everybody waits, and nobody for the time"
            self._virtual_time += timeout
            return select(0)

        self._selector.select = skip

    def time(self):
        return self._virtual_time


def run_in_virtual_time(coroutine):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
