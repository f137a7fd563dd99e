"""The set-ups of the client tests, and the lock of their environment."""

import re
from collections import Counter
from pathlib import Path

from tests.integration.clients.all_setups import SETUPS
from tests.integration.clients.client_setup import Situation

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "tests" / "integration" / "clients" / "requirements.lock"


def packages(lock):
    return set(re.findall(r"^([\w.-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE))


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_hashes_and_names_no_host():
    text = LOCK.read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_the_lock_has_the_clients_and_what_the_package_needs():
    named = {normalized(name) for setup in SETUPS for name in setup.distributions}
    assert (named | {"loguru", "tenacity", "hatchling", "uv"}) - packages(LOCK) == set()


def test_each_client_has_a_name_of_its_own():
    counts = Counter(setup.name for setup in SETUPS)
    assert [name for name, count in counts.items() if count > 1] == []


def test_at_least_forty_clients_are_met():
    assert len(SETUPS) >= 40


def test_a_situation_that_a_client_does_not_meet_has_its_reason():
    left_out = [(setup.name, *item) for setup in SETUPS for item in setup.left_out.items()]
    assert [entry for entry in left_out if not entry[2].strip()] == []
    assert {situation for _, situation, _ in left_out} <= set(Situation)
    assert Situation.DEAD not in {situation for _, situation, _ in left_out}
