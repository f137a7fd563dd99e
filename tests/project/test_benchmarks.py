"""The measurements: what they are made of stays whole, though they run elsewhere."""

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks import count, paths

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ADAPTERS = BENCHMARKS / "contenders"
CONTENDERS = {
    "aiobreaker",
    "circuitbreaker",
    "fluxgate",
    "hyx",
    "interlock-cb",
    "purgatory",
    "pybreaker",
    "pyresilience",
}


def pins(lock):
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_lock_names_every_contender_and_no_host():
    lock = BENCHMARKS / "requirements.lock"
    assert pins(lock).keys() >= CONTENDERS
    assert "://" not in lock.read_text(encoding="utf-8")


def test_every_line_of_the_lock_is_held_by_a_hash():
    text = (BENCHMARKS / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_what_both_locks_name_has_one_version():
    measured, tested = pins(BENCHMARKS / "requirements.lock"), pins(ROOT / "requirements.lock")
    both = measured.keys() & tested.keys()
    assert {"tenacity", "loguru", "aiohttp"} <= both
    assert {name: measured[name] for name in both} == {name: tested[name] for name in both}


def class_attributes(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id == "Contender" for base in node.bases
        ):
            yield {
                target.id: statement.value
                for statement in node.body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }


def test_every_contender_has_an_adapter_and_is_in_the_tables():
    found = {
        attributes["name"].value: path.stem
        for path in ADAPTERS.glob("*.py")
        for attributes in class_attributes(path)
    }
    assert found.keys() == CONTENDERS | {"region-breaker"}
    menu = (ADAPTERS / "__init__.py").read_text(encoding="utf-8")
    assert [module for module in found.values() if f"contenders.{module} import" not in menu] == []


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.stem)
def test_an_adapter_says_which_clock_its_library_reads(path):
    for attributes in class_attributes(path):
        assert attributes["reads"].value in {"monotonic", "wall"}
        assert attributes["clocks"].keys
        assert isinstance(attributes["rejection"], ast.Name | ast.Attribute)


# The count of instructions


def test_a_path_that_got_dearer_than_the_limit_is_found(capsys):
    before = {"cheap": 1000, "dear": 1000, "cheaper": 1000, "gone": 1000}
    now = {"cheap": 1029, "dear": 1031, "cheaper": 500, "new": 7}
    assert count.compare(now, before) == ["dear"]
    assert capsys.readouterr().out.count("TOO MUCH") == 1


@pytest.mark.parametrize("name", paths.PATHS)
def test_a_path_can_be_run(name):
    paths.PATHS[name]()(2)


def test_a_baseline_is_about_the_paths_that_are_counted():
    baselines = list((BENCHMARKS / "instructions").glob("*.json"))
    assert baselines
    for file in baselines:
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["instructions per call"].keys() == paths.PATHS.keys()
        assert content["interpreter"]


def test_what_cannot_be_counted_is_said_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(count.shutil, "which", lambda _: None)
    assert count.main([]) == 0
    assert "NOT COUNTED" in capsys.readouterr().out


def test_an_interpreter_without_a_baseline_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(count, "baseline_file", lambda: tmp_path / "none.json")
    assert count.baseline() == {}
    (tmp_path / "none.json").write_text('{"interpreter": "another build"}')
    assert count.baseline() == {}
    assert capsys.readouterr().out.count("NOTHING TO COMPARE WITH") == 2


# The pages that the measurements write


@pytest.mark.parametrize("page", ["scoreboard.md", "performance.md", "storm.md"])
def test_a_measured_page_is_about_the_locked_versions(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    locked = pins(BENCHMARKS / "requirements.lock")
    assert [name for name in CONTENDERS if f"{name} {locked[name]}" not in text] == []
    assert "Measured by `make " in text


def test_the_simulation_is_about_every_size_alone_and_shared():
    page = (ROOT / "docs" / "sharing-simulation.md").read_text(encoding="utf-8")
    for size in ("10", "100", "1,000", "10,000"):
        for how in ("on their own", "shared"):
            assert re.search(rf"^\| {size}, {how} \| [\d,]+ \|", page, re.MULTILINE), (size, how)
    assert "Simulated by `make simulate` on " in page
    assert (ROOT / "docs" / "_static" / "sharing-simulation.svg").is_file()


def test_the_scoreboard_has_every_scenario_that_there_is():
    board = (ROOT / "docs" / "scoreboard.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| [^|]+ \| `([\w-]+)` \|", board, re.MULTILINE))
    script = (BENCHMARKS / "scoreboard.py").read_text(encoding="utf-8")
    played = re.findall(r"^    (?:scenarios|several_threads)\.(\w+),", script, re.MULTILINE)
    assert len(played) > 20
    assert shown == {name.replace("_", "-") for name in played}
