"""An asyncio loop whose ready queue is served in any order, to run a story under every schedule."""

import asyncio
import heapq
import random


class FirstComeFirstServed:
    """The schedule that asyncio itself follows; notes where another choice was possible."""

    def __init__(self):
        self.choices = []  # for each step: how many callbacks were ready

    def choose(self, ready):
        self.choices.append(ready)
        return 0


class Deviating(FirstComeFirstServed):
    """The same, but at some steps another callback comes first."""

    def __init__(self, deviations):
        super().__init__()
        self._deviations = deviations

    def choose(self, ready):
        step = len(self.choices)
        super().choose(ready)
        return min(self._deviations.get(step, 0), ready - 1)


class Random(FirstComeFirstServed):
    """Any callback may come first."""

    def __init__(self, seed):
        super().__init__()
        self._random = random.Random(seed)

    def choose(self, ready):
        super().choose(ready)
        return self._random.randrange(ready)


class ScheduledLoop(asyncio.SelectorEventLoop):
    """A loop that runs one callback at a time, as a schedule says, on the time of a FakeClock.

    For coroutines that do no I/O and use no threads.
    """

    def __init__(self, clock, schedule, after_each_step):
        super().__init__()
        self._clock, self._schedule, self._after_each_step = clock, schedule, after_each_step

    def time(self):
        return self._clock()

    def _run_once(self):
        if not self._ready:
            self._skip_to_the_next_timer()
        while self._scheduled and self._scheduled[0].when() <= self.time():
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)
        if not self._ready:
            return
        place = self._schedule.choose(len(self._ready))
        handle = self._ready[place]
        del self._ready[place]
        if not handle._cancelled:
            handle._run()
        self._after_each_step()

    def _skip_to_the_next_timer(self):
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if self._scheduled:
            left = self._scheduled[0].when() - self.time()
            self._clock.advance(max(0.0, left))
        else:
            self._process_events(self._selector.select(0.01))  # what wakes it from outside


def deviating_schedules(choices, most=2):
    """Give every schedule that deviates at one step, or at two."""
    single = [(step, place) for step, ready in enumerate(choices) for place in range(1, ready)]
    for number, (step, place) in enumerate(single):
        yield {step: place}
        if most > 1:
            for later, other in single[number + 1 :]:
                if later > step:
                    yield {step: place, later: other}
