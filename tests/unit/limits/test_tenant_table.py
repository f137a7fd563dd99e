"""The table of tenants: what it knows, what it forgets, and how little room it takes."""

import tracemalloc
import uuid

import pytest

from resilience.limits import LimitReading, RateLimit, TenantTable, shared_limit

LEASE = 60.0


def test_a_full_table_forgets_the_throttle_whose_refusal_is_the_longest_ago():
    table = TenantTable(max_tenants=3)
    for tenant in ("a", "b", "c"):
        table.refuse(tenant, 60, 0)
    table.refuse("a", 60, 1)
    table.refuse("d", 60, 2)
    assert list(table.throttles) == ["c", "a", "d"]
    assert table.start("b", LEASE, 2) is None


def test_a_full_table_forgets_the_limit_that_was_learned_first():
    table = TenantTable(max_tenants=2)
    for number, tenant in enumerate(("a", "b", "b", "c")):
        table.learn(LimitReading(limit=RateLimit(100 + number, 60)), tenant, 0)
    assert table.limit_of("a") is None
    assert table.limit_of("b") == RateLimit(102, 60)
    assert table.limit_of("c") == RateLimit(103, 60)


def test_a_probe_whose_tenant_was_refused_meanwhile_does_not_end_the_throttle():
    table = TenantTable()
    table.refuse("a", 5, 0)
    probe = table.start("a", LEASE, 5)
    table.refuse("a", 20, 6)
    assert not table.succeed(probe, 7)
    assert table.wait_of("a", 7) == 19
    assert table.start("a", LEASE, 26) is not None


def test_a_late_probe_changes_nothing():
    table = TenantTable()
    table.refuse("a", 5, 0)
    old = table.start("a", LEASE, 5)
    new = table.start("a", LEASE, 65)
    assert not table.succeed(old, 66)
    table.give_back(old)
    assert table.is_probing(new)
    assert not table.is_probing(old)


@pytest.mark.parametrize(("allowed", "window"), [(0, 60), (300, 0), (float("inf"), 60)])
def test_a_limit_that_makes_no_sense_is_refused(allowed, window):
    with pytest.raises(ValueError, match="must be a finite number"):
        RateLimit(allowed, window)


def test_ten_thousand_tenants_take_at_most_300_bytes_each():
    tenants = 10_000
    names = [str(uuid.UUID(int=number)) for number in range(tenants)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        table = TenantTable()
        for number, name in enumerate(names):
            tenant = "".join(name)  # the text is the table's, and counts too
            reading = LimitReading(is_throttled=True, wait=60.5, limit=shared_limit(300, 60))
            table.learn(reading, tenant, 1000.0 + number)
        taken = tracemalloc.get_traced_memory()[0] - before
        for number in range(5 * tenants):
            table.refuse(f"further tenant {number}", 60.5, 20_000.0 + number)
        assert len(table.throttles) == tenants
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / tenants <= 300
    assert grown / tenants <= 400


def test_equal_limits_are_one_object_and_look_as_they_were_given():
    assert shared_limit(300.0, 60.0) is shared_limit(300.0, 60.0)
    assert repr(shared_limit(300, 60)) == "RateLimit(allowed=300, window=60)"
    assert repr(shared_limit(300.0, 60.0)) == "RateLimit(allowed=300.0, window=60.0)"
