"""Celery on a real RabbitMQ, with the task of the docs: nothing is lost in an outage."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from tests.support.pages import python_blocks
from tests.support.rabbitmq_broker import wait_until

REGION = "eu-west-1"
# What the page takes as given. The region is down for as long as the file `down` is there.
BEFORE = """
from pathlib import Path

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker

url = {url!r}
here = Path({here!r})
policy = BreakerPolicy(failure_threshold=2, recovery_timeout=0.2, success_threshold=1)
registry = CircuitBreakerRegistry(policy)


def note(file, text):
    with (here / file).open("a") as notes:
        notes.write(f"{{text}}\\n")


registry.listen(lambda event: note("changes", event.new))


@region_breaker(region_from="region", registry=registry)
def post(region, body):
    if (here / "down").exists():
        raise ConnectionError(region)
    note("done", body)
"""


@pytest.fixture
def queue():
    return f"celery.{uuid4().hex[:8]}"


@pytest.fixture
def worker(broker, queue, tmp_path):
    """A worker with the example of the page; gives the folder that it takes notes in."""
    blocks = python_blocks("how-to/message-workers.md")
    (block,) = [block for block in blocks if "from celery import Celery" in block]
    before = BEFORE.format(url=str(broker.url), here=str(tmp_path))
    (tmp_path / "tasks.py").write_text(before + block)
    (tmp_path / "down").touch()
    options = ["--pool=threads", "--concurrency=4", f"--queues={queue}", "--loglevel=ERROR"]
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--app=tasks", "worker", *options],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
    )
    yield tmp_path
    process.kill()
    process.wait(10)


def lines(file):
    return file.read_text().splitlines() if file.exists() else []


def test_the_tasks_of_a_region_that_is_down_wait_for_it(broker, worker, queue):
    with Celery(broker=str(broker.url), set_as_current=False) as producer:
        for number in range(30):
            producer.send_task("tasks.deliver", (REGION, number), queue=queue)
    changes, done = worker / "changes", worker / "done"
    wait_until(lambda: lines(changes).count("HALF_OPEN") >= 2, "it was probed twice", 60)
    assert lines(changes)[0] == "OPEN"
    assert lines(done) == []
    (worker / "down").unlink()
    wait_until(lambda: len(lines(done)) >= 30, "all are delivered", 60)
    assert sorted(map(int, lines(done))) == list(range(30))
