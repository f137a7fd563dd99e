"""Writing docs/soak-rabbitmq.md: the prose is in soak-rabbitmq.md next to this file."""

from itertools import zip_longest
from pathlib import Path
from string import Template

from benchmarks import report
from tests.soak import rabbitmq_scenarios as scenarios
from tests.soak.rabbitmq_campaign import CHAPTERS

TEMPLATE = Path(__file__).with_name("soak-rabbitmq.md")
# The load average above which others than the soak must have used the machine.
BUSY = 6.0
# What is done in the scenario of each fault.
FAULTS = {
    "cannot be copied": "23 messages are moved to a wait queue. One has a header that is not "
    "UTF-8, one a double of 1e300, and one a message ID that aio-pika cannot decode",
    "no right to publish": "The worker has no right to publish to the default exchange, and has 60 "
    "messages to move. The queue has a delivery limit of 20",
    "held failures": "`hold_when_open` with a prefetch of 1, around a handler that lets errors "
    "through, in an outage; delivery limit 20",
    "memory alarm": "A memory alarm in the broker, and a shared queue with messages of a region "
    "that is down and 330 of one that is up",
    "queue away": "The queue is deleted, and declared again 15 s later",
    "queue that deletes itself": "The region of an auto-delete queue, and of one with `x-expires`, "
    "is down; 100 messages in each",
    "poison": "A shared queue has 36 good messages, then 15 that are always answered 500, then "
    "1,949 good ones; default policy, the region is up",
    "told to wait": "30 messages that are answered 429 with `Retry-After: 60`, in front of 300 "
    "good ones; prefetch 10",
    "conditions": "Six conditions: a full queue of dead letters, a call longer than `max_unacked`, "
    "a channel that the broker closes, a full hand, a blocked connection, a handler that settles "
    "a message whose call failed",
    "stopping": "A worker with a `stop_timeout` of 1 s is stopped",
    "no right to configure": "The wait queues exist, and the worker has no right to configure them",
    "misuse": "A handler with two parameters, an `on_error` with one, a `max_unacked` above the "
    "queue's `x-consumer-timeout`, a handler with another registry",
}


def render(results):
    """Return the page.

    Args:
        results: What the soak has kept, for each broker.
    """
    text = Template(TEMPLATE.read_text(encoding="utf-8"))
    return text.substitute(
        recovery=f"{scenarios.RECOVERY:g}",
        limit=scenarios.LIMIT,
        brokers=" and ".join(map(version_of, results.values())),
        measured=measured(results),
        verdict=verdict(results),
        totals=totals(results),
        faults=faults_table(results),
        revision=revision(results),
        **{name.replace(" ", "_"): chapter_table(results, name) for name in CHAPTERS},
    )


def parts(place):
    """Return the parts that were measured on a broker: the chapters, and the faults."""
    return [*place["chapters"].values(), *([place["faults"]] if "faults" in place else [])]


def version_of(place):
    return parts(place)[-1]["version"]


def short(place):
    """Return the version of a broker in two numbers."""
    return ".".join(version_of(place).split(".")[:2])


def measured(results):
    """Describe where the figures come from, and how busy the machine was."""
    measurements = [part for place in results.values() for part in parts(place)]
    origins = list(dict.fromkeys(part["origin"] for part in measurements))
    loads = sorted(part["load"] for part in measurements)
    load = (
        f"The load average of the machine was between {loads[0]:.1f} and {loads[-1]:.1f} when the "
        "scenarios began."
    )
    if loads[-1] > BUSY:
        load += " It was busy with other programs: all times are shorter on a quiet one."
    return "\n".join([*origins, load])


def missed(results):
    """Return a line for each promise that was not kept."""
    lines = []
    for place in results.values():
        version = f"RabbitMQ {short(place)}"
        for chapter in place["chapters"].values():
            lines += [f"{version}, {what}" for what in chapter["missed"]]
        after = place.get("faults", {}).get("after", {})
        lines += [f"{version}, {name}: {seen['text']}" for name, seen in after.items()
                  if not seen["kept"]]  # fmt: skip
    return lines


def print_missed(chapters):
    """Print the promises that were not kept; return the exit code."""
    lines = [what for chapter in chapters.values() for what in chapter["missed"]]
    print("\n".join(lines) or "every promise was kept")
    return 1 if lines else 0


def verdict(results):
    lines = missed(results)
    if not lines:
        return "Every promise was kept."
    return "\n".join(["These were not kept:", "", *(f"- {line}" for line in lines)])


def totals(results):
    head = ("RabbitMQ", "messages in all scenarios", "lost")
    rows = []
    for place in results.values():
        chapters = place["chapters"].values()
        messages, lost = (sum(one[what] for one in chapters) for what in ("messages", "lost"))
        rows.append((version_of(place), f"{messages:,}", str(lost)))
    return report.table(head, rows)


def faults_table(results):
    lines = ["|  | RabbitMQ | before | now |", "|---|---|---|---|"]
    for name, title in FAULTS.items():
        seen = {}  # what was seen -> by which versions
        for place in results.values():
            seen.setdefault(fault_cells(place["faults"], name), []).append(short(place))
        first, *others = (
            f"{', '.join(versions)} | {before} | {now} |"
            for (before, now), versions in seen.items()
        )
        lines += [f"| {title} | {first}", *(f"|  | {other}" for other in others)]
    return "\n".join(lines)


def fault_cells(faults, name):
    """Return what was seen of a fault with the code before and with the code now."""
    now = faults["after"][name]
    mark = "" if now["kept"] else " **(missed)**"
    return faults["before"][name]["text"], now["text"] + mark


def revision(results):
    """Return the short names of the revisions that the faults were played with before."""
    return ", ".join({place["faults"]["revision"][:7]: None for place in results.values()})


def chapter_table(results, name):
    """Return the table of a chapter: each row of one broker is followed by that of the other."""
    tables, head = [], []
    for place in results.values():
        chapter = place["chapters"].get(name)
        if chapter is None:
            continue
        labels, version = chapter["labels"], short(place)
        head = [*chapter["head"][:labels], "RabbitMQ", *chapter["head"][labels:]]
        tables.append([[*row[:labels], version, *row[labels:]] for row in chapter["rows"]])
    rows = [row for rows in zip_longest(*tables) for row in rows if row is not None]
    return report.table(head, rows)
