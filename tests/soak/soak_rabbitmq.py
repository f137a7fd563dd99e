"""The soak of message workers: every promise at full length, on RabbitMQ 3.10 and 4.0.

    make soak-rabbitmq                               all of it; takes about 40 minutes
    make soak-rabbitmq ARGS="--on debian13"          on one broker
    make soak-rabbitmq ARGS="--only faults kills"    some chapters
    make soak-rabbitmq ARGS=--page                   only writes the page again

It plays the chapters of rabbitmq_campaign.py, and the faults of rabbitmq_faults.py with the code as
it was before they were mended and as it is now. What has been measured replaces what was measured
before in soak-rabbitmq.json, from which docs/soak-rabbitmq.md is written. It fails if a promise was
not kept. With AMQP_URL it plays the chapters on that broker, and prints what was not kept.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from benchmarks import report
from tests.soak import rabbitmq_page as page
from tests.soak.rabbitmq_campaign import CHAPTERS
from tests.support import rabbitmq_broker

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("soak-rabbitmq.json")
COMMAND = "make soak-rabbitmq"
# The last commit before the faults were mended, one after the other.
BEFORE = "3b7d0e7d33760ba30b71199f4d58e6984cb72e01"
FAULTS = "faults"
INSTALLED, DEBIAN_13 = "installed", "debian13"


def root_of(place):
    """Return the root of the system with the broker; the one in the chroot is made if needed."""
    if place == INSTALLED:
        if not rabbitmq_broker.is_installed():
            sys.exit(f"soak: there is no RabbitMQ ({rabbitmq_broker.HOW_TO_GET_IT})")
        return str(rabbitmq_broker.THIS_SYSTEM)
    command = [sys.executable, ROOT / "scripts" / "rabbitmq4.py"]
    made = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit("soak: RabbitMQ 4.0 cannot be had; --on installed does without")
    return made.stdout.strip()


def start(module, *arguments, root, code=ROOT):
    """Start a module with the brokers of one system and the `resilience` of a folder."""
    environment = {**os.environ, "RABBITMQ_ROOT": root, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tests.soak.{module}", *arguments]
    return subprocess.Popen(command, cwd=code, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process):
    """Wait for a module; return what it has printed."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"soak: failed: {' '.join(map(str, process.args))}")
    return json.loads(output)


def end(process):
    """End a module that still runs; it ends its broker."""
    if process.poll() is None:
        process.terminate()
        process.wait()


def play_chapters(names, root):
    """Play chapters on the brokers of one system."""
    playing = start("rabbitmq_campaign", *names, root=root)
    try:
        return finish(playing)
    finally:
        end(playing)


def play_faults(root, before):
    """Play the faults with the code before and the code now, at the same time."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="before-") as folder:
        export(before, folder)
        playing = [start("rabbitmq_faults", root=root, code=code) for code in (folder, ROOT)]
        try:
            then, now = map(finish, playing)
        finally:
            for process in playing:
                end(process)
    return {
        "version": now["version"],
        "before": then["faults"],
        "after": now["faults"],
        "revision": before,
        "load": load,
    }


def export(revision, folder):
    """Put the package into a folder as it was in a revision."""
    command = ["git", "archive", revision, "resilience"]
    archive = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE)
    if archive.returncode:
        sys.exit(f"soak: this clone does not have {revision}; --before names another revision")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def measure(results, options):
    """Play what was asked for; put it into the results."""
    chapters = [name for name in options.only if name != FAULTS]
    for place in options.on:
        root = root_of(place)
        results.setdefault(place, {"chapters": {}})
        if chapters:
            played = play_chapters(chapters, root)
            for name, chapter in played["chapters"].items():
                results[place]["chapters"][name] = {
                    **chapter,
                    "version": played["version"],
                    "origin": origin(),
                }
            save(results)
        if FAULTS in options.only:
            results[place][FAULTS] = {**play_faults(root, options.before), "origin": origin()}
            save(results)


def origin():
    return report.origin(COMMAND, "aio-pika")


def save(results):
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--on", nargs="+", choices=(INSTALLED, DEBIAN_13))
    parser.add_argument("--only", nargs="+", choices=(FAULTS, *CHAPTERS))
    parser.add_argument("--before", default=BEFORE, help="a revision of this project")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    options.on = options.on or [INSTALLED, DEBIAN_13]
    options.only = options.only or [FAULTS, *CHAPTERS]
    if os.environ.get("AMQP_URL") and not options.page:
        names = [name for name in options.only if name != FAULTS]
        return page.print_missed(play_chapters(names, "/")["chapters"])
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if not options.page:
        measure(results, options)
    report.write("soak-rabbitmq.md", page.render(results))
    return 1 if page.missed(results) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # It ends what it has started.
    sys.exit(main())
