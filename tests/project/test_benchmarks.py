"""The measurements work: each command, as far as it runs without the other libraries."""

import json
import re
import sys
from pathlib import Path

import pytest
from loguru import logger

from benchmarks import bench, call_depth, count, paths, report, scoreboard, storm, tenacity_entries
from benchmarks.contenders import RegionBreaker
from benchmarks.kinds import BARE, KINDS
from benchmarks.rounds import QUICK, Case

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
CONTENDERS = ("circuitbreaker", "interlock-cb", "nopanic", "pybreaker")


@pytest.fixture(autouse=True)
def no_log():
    """Measurements do not log."""
    logger.disable("resilience")
    yield
    logger.enable("resilience")


# The locked versions


def pins(lock):
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_lock_has_hashes_and_names_no_host():
    text = (BENCHMARKS / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) > len(CONTENDERS)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_a_package_that_both_locks_name_has_one_version():
    measured, tested = pins(BENCHMARKS / "requirements.lock"), pins(ROOT / "requirements.lock")
    both = measured.keys() & tested.keys()
    assert {"tenacity", "loguru"} <= both
    assert {name: measured[name] for name in both} == {name: tested[name] for name in both}


def test_the_storm_has_the_locked_version_of_stamina():
    locked = pins(BENCHMARKS / "requirements.lock")
    assert f"stamina {locked['stamina']}" in (ROOT / "docs" / "storm.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("page", ["scoreboard.md", "performance.md", "storm.md"])
def test_a_page_is_about_the_locked_versions(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    locked = pins(BENCHMARKS / "requirements.lock")
    assert [name for name in CONTENDERS if f"{name} {locked[name]}" not in text] == []


# make bench


@pytest.mark.parametrize("name", KINDS)
def test_bench_times_each_kind_of_call(name):
    title, table, _ = bench.measure([RegionBreaker], QUICK, [name])
    assert title == f"## {KINDS[name].title}"
    names = [row.strip("|* ").split("*")[0].split(" |")[0] for row in table.splitlines()[2:]]
    variants = [f"{bench.OURS}, {variant}" for variant in KINDS[name].variants]
    assert set(names) == {KINDS[name].alone, bench.EMPTY, bench.OURS, *variants}
    assert "|  |  | 1.00 |" in table


def case(name, *times):
    return Case(name, print, times=list(times))


def test_bench_names_where_a_call_is_dearer_than_the_peers():
    ours, peer = case(bench.OURS, 150.0, 170.0), case("circuitbreaker 1.0", 120.0, 130.0)
    (row,) = bench.dearer_than_peer("A call", [case(BARE, 10.0, 10.0), ours, peer])
    assert row == ("A call", bench.OURS, "150", "120", "25.0%")
    assert bench.dearer_than_peer("A call", [peer, case(bench.OURS, 119.0)]) == []


# make bench-count


@pytest.mark.parametrize("name", paths.PATHS)
def test_a_path_can_be_run(name):
    paths.PATHS[name]()(2)


def test_a_path_that_is_dearer_than_the_limit_is_found(capsys):
    before = {"cheap": 1000, "dear": 1000, "cheaper": 1000, "gone": 1000}
    now = {"cheap": 1029, "dear": 1031, "cheaper": 500, "new": 7}
    assert count.compare(now, before) == ["dear"]
    assert capsys.readouterr().out.count("TOO MUCH") == 1


def test_each_path_has_a_baseline():
    files = list((BENCHMARKS / "instructions").glob("*.json"))
    assert files
    for file in files:
        baseline = json.loads(file.read_text(encoding="utf-8"))
        assert baseline["instructions per call"].keys() == paths.PATHS.keys()


def test_a_machine_without_valgrind_is_reported_and_does_not_fail(monkeypatch, capsys):
    monkeypatch.setattr(count.shutil, "which", lambda _: None)
    assert count.main([]) == 0
    assert "NOT COUNTED" in capsys.readouterr().out


def test_a_tenant_that_costs_too_much_is_found_without_a_baseline(capsys):
    counted = {"success": 1000, "success with a tenant": 1301}
    assert count.compare(counted, {}) == ["success with a tenant"]
    assert "TOO MUCH" in capsys.readouterr().out
    counted["success with a tenant"] = 1300
    assert count.compare(counted, {}) == []


def test_an_interpreter_without_a_baseline_is_reported(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(count, "baseline_file", lambda: tmp_path / "none.json")
    assert count.read_baseline() == {}
    (tmp_path / "none.json").write_text('{"interpreter": "another build"}')
    assert count.read_baseline() == {}
    assert capsys.readouterr().out.count("NOTHING TO COMPARE WITH") == 2


# make call-depth


@pytest.mark.parametrize(
    ("kind", "files", "functions"),
    [
        (call_depth.success, 1, 1),
        (call_depth.failure, 7, 18),
        (call_depth.probe, 9, 34),
        # Eleven and 45 were aimed at. Each of tenacity's hooks and its wait add theirs, the wait
        # looks for the headers of an answer in a file of its own, and for the delay in another one,
        # which the limits of tenants read too, the first attempt is made outside of tenacity, and
        # each loop has statistics of its own. How long the circuit stays OPEN has a file as well,
        # since it may grow, and all rules open the circuit by the same function.
        (call_depth.failing_probe_with_retries, 22, 69),
    ],
)
def test_a_call_passes_few_files_and_functions(kind, files, functions):
    kind()  # the first error of a type is looked at longer
    entered = call_depth.depth(kind())
    assert entered >= (1, 1)
    assert entered[0] <= files
    assert entered[1] <= functions


# make tenacity-entries


def test_what_tenacity_executes_is_counted_and_described():
    table = tenacity_entries.table(tenacity_entries.kinds())
    page = (ROOT / "docs/explanation/where-the-time-goes.md").read_text(encoding="utf-8")
    rows = {row.split(" | ")[0].strip("|` ") for row in table.splitlines()[2:]}
    assert {"inspect.py", "tenacity/__init__.py", "tenacity/_utils.py"} <= rows
    if sys.version_info[:2] == (3, 11):  # other interpreters have other byte code
        assert table in page


# make storm, make scoreboard


def test_the_storm_sends_nothing_after_the_circuit_has_opened():
    rows = storm.table([RegionBreaker]).splitlines()[2:]
    (_, alone, *_), plain, *ours = [row.strip("| ").split(" | ") for row in rows]
    assert int(alone) == storm.TASKS * storm.ATTEMPTS
    assert plain[0].endswith("`tenacity.retry`")
    assert [after_open for _, _, after_open, *_ in ours] == ["0", "0"]
    assert all(int(requests) < int(alone) for _, requests, *_ in (plain, *ours))


@pytest.mark.parametrize("name", scoreboard.TITLES)
def test_a_cell_of_the_scoreboard_can_be_had_by_itself(name):
    cell = scoreboard.cell(RegionBreaker, name)
    page = (ROOT / "docs" / "scoreboard.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {cell} |" in page


# The sections of pages


def test_a_section_is_replaced_and_the_rest_of_the_page_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- make it -->\nold\n<!-- end -->\n\nafter\n")
    for _ in range(2):
        report.write_section("page.md", "make it", "new")
        assert page.read_text() == ("before\n\n<!-- make it -->\n\nnew\n\n<!-- end -->\n\nafter\n")
    with pytest.raises(ValueError, match="needs one section"):
        report.write_section("page.md", "make another", "new")
