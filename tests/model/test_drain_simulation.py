"""The drain after an outage, simulated: nothing is refused, and live messages do not wait."""

from dataclasses import replace
from statistics import mean

import pytest

from benchmarks import report, simulate_drain
from benchmarks.drain.ways import FullSpeed, Paced
from benchmarks.drain.world import Plan, World
from resilience.limits import RateLimit


@pytest.mark.parametrize("seed", range(5))
def test_the_drain_keeps_its_promises(seed):
    plan = Plan(seed=seed)
    way = Paced(plan.workers, plan.backlog)
    figures = World(plan, way).play()
    assert figures.refused <= 0.001 * figures.requests
    assert figures.of_the_least(plan) <= 1.1
    assert mean(figures.live) <= 2 * plan.answer
    assert max(figures.live) <= 10 * plan.answer
    assert way.drain.report(figures.seconds).requests == figures.requests
    assert way.drain.estimate(figures.seconds).eta == 0


def test_the_estimate_after_ten_minutes_is_about_right():
    plan = Plan()
    way = Paced(plan.workers, plan.backlog)
    world = World(plan, way)
    estimates = []

    def look():
        estimates.append((world.now, way.drain.estimate(world.now).eta))

    world.after(600, look)
    seconds = world.play().seconds
    ((at, eta),) = estimates
    assert at + eta == pytest.approx(seconds, rel=0.1)


def test_full_speed_is_refused_often():
    plan = Plan(outage=600)
    figures = World(plan, FullSpeed(plan.workers)).play()
    assert figures.refused > 0.2 * figures.requests


def test_what_cannot_be_drained_is_not():
    plan = Plan(outage=60, arrivals=6, limit=RateLimit(300, 60))
    figures = World(plan, Paced(plan.workers, plan.backlog)).play()
    assert figures.seconds is figures.of_the_least(plan) is None


def test_the_command_writes_the_page_and_the_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(simulate_drain, "PLAN", replace(simulate_drain.PLAN, outage=300))
    (tmp_path / "docs" / "_static").mkdir(parents=True)
    simulate_drain.main()
    page = (tmp_path / "docs" / "drain-simulation.md").read_text(encoding="utf-8")
    assert "| pacing at 95 % |" in page
    assert "| `SharedConsumer`, limit learned |" in page
    assert "behind the backlog" in page
    picture = (tmp_path / "docs" / simulate_drain.PICTURE).read_text(encoding="utf-8")
    assert picture.count("<polyline") == 8
    assert ">SharedConsumer, limit learned<" in picture
    assert "pacing at 95 %" in capsys.readouterr().out
