"""A backlog after an outage, worked off in eight ways, on virtual time.

    make simulate-drain

The pace, the drain and the adaptive rate are those of the package, and so are the consumers, with a
broker in memory. Nothing depends on how fast this
machine is, and the same seed gives the same figures.
"""

import logging
from statistics import mean, quantiles

from loguru import logger

from benchmarks import report
from benchmarks.drain.consumer import ConsumerWorld, Settings
from benchmarks.drain.plot import draw
from benchmarks.drain.ways import Adaptive, FullSpeed, Paced, Ramp, Way
from benchmarks.drain.world import Figures, Plan, World

PLAN = Plan()
PICTURE = "_static/drain-simulation.svg"

INTRODUCTION = f"""\
# A backlog and a rate limit, simulated

A region was down for {PLAN.outage / 60:.0f} minutes while {PLAN.arrivals:g} messages a second
arrived, at random times, and go on arriving. It is back now, {PLAN.backlog:,} messages wait, and it
allows {PLAN.limit.allowed:g} requests in each {PLAN.limit.window:g} s. {PLAN.workers} workers send
the messages; an answer takes {PLAN.answer:g} s. Nothing can be faster than {PLAN.least:,.0f} s,
because of what arrives meanwhile. How much of it is wasted, and how long do live messages wait?

The first four are models of workers: only the pace, the drain and the adaptive rate are the
package's. The others are its real consumers, with their real client and a broker in memory, which
have been through the whole outage; see [Tenants and rate limits](how-to/tenants.md). Simulated are
the clock and the server, which counts in fixed windows and answers 429 with the seconds until the
next one."""

READING = """\
- **Full speed** and **a ramp of concurrency** (1, 2, 4, ... workers) repeat a request that was
  refused after 1, 2, 4, ... 60 s, less up to half of it at random, as retries usually do.
- **AIMD** does not know the limit. It waits as a 429 asks, then goes on at half the rate, and
  grows by half a request a second each second.
- **Pacing at 95 %** knows the limit from the headers of the first answer.
- In the first four a worker that is free takes a live message first. The **`SharedConsumer`** has
  them in a queue of their own; in the queue of a **`RegionConsumer`** they are behind the backlog.
- The consumers know the limit by `rate_limit=`, or from the headers of the answers
  (`breaker.observe`). Where they know none, they begin with a slow start (1, 2, 4, ... calls), and
  go on with AIMD at half the rate that they have reached as soon as one is refused.
- **Live** is the time from its
  arrival to its answer. Without a backlog it is the time of the answer alone.
- **Of the least** compares with the time that the limit allows for the backlog and what happened to
  arrive meanwhile. Ways that leave live messages waiting, or begin with a full window, get below 1.
- **Requests** and **429** are counted until the last message of the backlog is done."""


def ways(plan: Plan) -> list[Way]:
    """Return what is compared."""
    return [
        FullSpeed(plan.workers),
        Ramp(plan.workers),
        Adaptive(plan.workers),
        Paced(plan.workers, plan.backlog),
    ]


def consumers(plan: Plan) -> dict[str, Settings]:
    """Return how the real consumers are set up that are compared."""
    return {
        "`SharedConsumer`, limit given": Settings(rate_limit=plan.limit),
        "`SharedConsumer`, limit learned": Settings(observes=True),
        "`SharedConsumer`, limit unknown": Settings(),
        "`RegionConsumer`, limit given": Settings(rate_limit=plan.limit, is_shared=False),
    }


def play(plan: Plan) -> dict[str, Figures]:
    """Play the plan in every way."""
    played = {way.name: World(plan, way).play() for way in ways(plan)}
    for name, settings in consumers(plan).items():
        played[name] = ConsumerWorld(plan, settings).play()
    return played


def table(plan: Plan, played: dict[str, Figures]) -> str:
    """Lay out the figures."""
    head = ["", "requests", "429", "drained after", "of the least", "live, mean", "live, 99 %"]
    return report.table(head, [_row(plan, name, figures) for name, figures in played.items()])


def _row(plan: Plan, name: str, figures: Figures) -> list[str]:
    seconds, ratio = figures.seconds, figures.of_the_least(plan)
    return [
        name,
        f"{figures.requests:,}",
        f"{figures.refused / figures.requests:.2%}",
        "never" if seconds is None else f"{seconds:,.0f} s",
        "" if ratio is None else f"{ratio:.2f}",
        f"{mean(figures.live):.2f} s" if figures.live else "behind the backlog",
        f"{quantiles(figures.live, n=100)[-1]:.2f} s" if figures.live else "",
    ]


def main() -> None:
    """Play everything, and write the page and the picture."""
    logger.remove()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # It warns of connections that end.
    played = play(PLAN)
    lines = {name.replace("`", ""): figures.backlog for name, figures in played.items()}
    picture = draw(lines, x_label="seconds", y_label="Messages that wait", x_step=600)
    (report.ROOT / "docs" / PICTURE).write_text(picture, encoding="utf-8")
    report.write(
        "drain-simulation.md",
        INTRODUCTION,
        table(PLAN, played),
        f"![The backlog over time, in each of the ways]({PICTURE})",
        READING,
        report.origin("make simulate-drain", how="Simulated").replace("; .", "."),
    )


if __name__ == "__main__":
    main()
