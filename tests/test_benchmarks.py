"""The measurements: what they are made of stays whole, though they run elsewhere."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
