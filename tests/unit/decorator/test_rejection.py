"""The error of a rejected call."""

import copy
import pickle

import aiohttp
import pytest

from resilience import CircuitBreakerOpenError, ResilienceError
from tests.support.decorated import EU, HALF_OPEN, OPEN, count


class TestARejection:
    @pytest.fixture
    async def send(self, protect, http_error, clock):
        @protect()
        async def send(region):
            raise http_error(503, message="a body that nobody should see")

        for _ in range(2):
            with pytest.raises(aiohttp.ClientResponseError):
                await send(EU)
        clock.advance(18)
        return send

    @pytest.fixture
    async def rejected(self, send):
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        return caught.value

    async def test_says_which_circuit_why_and_how_long(self, rejected):
        assert isinstance(rejected, ResilienceError)
        assert rejected.region == EU
        assert rejected.state is OPEN
        assert rejected.reason == "ClientResponseError 503"
        assert rejected.retry_after == pytest.approx(42)

    async def test_reads_as_one_line_with_all_of_it(self, rejected):
        text = str(rejected)
        assert EU in text
        assert "OPEN" in text
        assert "ClientResponseError 503" in text
        assert "42" in text
        assert "\n" not in text

    async def test_is_a_new_one_each_time(self, send, rejected):
        with pytest.raises(CircuitBreakerOpenError) as again:
            await send(EU)
        assert again.value is not rejected
        assert again.value.__traceback__ is not rejected.__traceback__
        again.value.add_note("mine")
        with pytest.raises(CircuitBreakerOpenError) as third:
            await send(EU)
        assert not hasattr(third.value, "__notes__")

    async def test_carries_no_other_error(self, rejected):
        assert rejected.__cause__ is None
        assert rejected.__context__ is None
        told = f"{rejected} {rejected!r} {vars(rejected)} {rejected.args}"
        assert "bearer" not in told.lower()
        assert "nobody should see" not in told

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    async def test_can_be_pickled(self, rejected, protocol):
        copied = pickle.loads(pickle.dumps(rejected, protocol))
        assert type(copied) is CircuitBreakerOpenError
        assert str(copied) == str(rejected)
        for name in ("region", "state", "reason", "retry_after"):
            assert getattr(copied, name) == getattr(rejected, name)

    async def test_can_be_copied(self, rejected):
        for copied in (copy.copy(rejected), copy.deepcopy(rejected)):
            assert (copied.region, copied.retry_after) == (EU, rejected.retry_after)

    async def test_comes_out_of_a_synchronous_function_alike(self, send, rejected, protect):
        @protect()
        def count_messages(region):
            return 7

        with pytest.raises(CircuitBreakerOpenError) as caught:
            count_messages(EU)
        assert str(caught.value) == str(rejected)
        assert caught.value.__context__ is None

    async def test_says_so_when_a_probe_has_the_place(self, send, registry, clock):
        clock.advance(42)
        registry.get(EU).acquire()
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        assert caught.value.state is HALF_OPEN
        assert caught.value.reason == "ClientResponseError 503"
        assert caught.value.retry_after == pytest.approx(1)

    async def test_knows_no_end_when_it_was_forced(self, send, registry):
        registry.get(EU).force_open("maintenance")
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        assert caught.value.state is OPEN
        assert caught.value.reason == "forced open: maintenance"
        assert caught.value.retry_after is None
        assert "maintenance" in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).retry_after is None

    async def test_is_not_counted_as_a_failure(self, send, rejected, registry):
        for _ in range(5):
            with pytest.raises(CircuitBreakerOpenError):
                await send(EU)
        assert count(registry) == (0, 2, 0, 6)
