"""The soaks: what they play, and their pages, which are written from what was measured."""

import json

from tests.soak import edge_scenarios as edges
from tests.soak import fault_scenarios as faults
from tests.soak import rabbitmq_page as page
from tests.soak import soak_rabbitmq, soak_redis
from tests.soak.rabbitmq_faults import FAULTS
from tests.support import ip

PAGE = soak_rabbitmq.ROOT / "docs" / "soak-rabbitmq.md"


def results():
    return json.loads(soak_rabbitmq.RESULTS.read_text(encoding="utf-8"))


def test_the_page_of_the_soak_is_written_from_its_results():
    assert PAGE.read_text(encoding="utf-8") == page.render(results())


def test_each_fault_has_a_row_for_each_broker():
    assert page.FAULTS.keys() == FAULTS.keys()
    for place in results().values():
        assert place["faults"]["before"].keys() == FAULTS.keys()
        assert place["faults"]["after"].keys() == FAULTS.keys()


def test_each_fault_was_seen_before_it_was_mended():
    for place in results().values():
        assert not any(seen["kept"] for seen in place["faults"]["before"].values())


def test_a_promise_that_was_not_kept_is_on_the_page():
    measured = results()
    assert "(missed)" not in page.render(measured) or page.missed(measured)
    place = next(iter(measured.values()))
    place["faults"]["after"]["poison"] = {"text": "0 of 1,985 delivered", "kept": False}
    text = page.render(measured)
    assert "0 of 1,985 delivered **(missed)**" in text
    assert f"- RabbitMQ {page.short(place)}, poison: 0 of 1,985 delivered" in text


def test_what_the_page_of_the_redis_soak_shows_is_played():
    played = {group for chapter in soak_redis.chapters(2) for group, _ in chapter.runs}
    shown = {group for _, group, _, _ in soak_redis.PROMISED}
    if not ip.available():  # half of a fleet cannot be cut off here
        shown.discard("halves_go_on_and_agree_again")
    assert shown <= played
    assert {scenario.__name__ for scenario in (*faults.STORE_FAILS, *edges.EDGES)} <= played
