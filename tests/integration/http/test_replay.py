"""Recording calls to a region on real HTTP, and replaying them."""

import asyncio
import random

import aiohttp
import pytest

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.recording import read_recording
from resilience.replay import compare, replay
from resilience.testing import FakeGenesys
from tests.integration.http.test_rules import MESSAGE

POLICIES = [
    BreakerPolicy(recovery_timeout=5),
    BreakerPolicy(failure_rate_threshold=0.5, minimum_calls=10, recovery_timeout=5, ramp=(2, 2)),
]


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_recorded_soak_is_reproduced(tmp_path, clock, policy):
    chance = random.Random(11)
    registry = CircuitBreakerRegistry(policy, clock=clock)
    changes = []
    registry.listen(changes.append)
    recording = registry.record(tmp_path / "outcomes")
    async with (
        FakeGenesys(require_token=False) as genesys,
        aiohttp.ClientSession(raise_for_status=True) as session,
    ):

        @registry.get("eu-west-1")
        async def send():
            async with session.post(genesys.message_url(), json=MESSAGE) as response:
                return response.status

        async def work():
            for _ in range(60):
                clock.advance(chance.random() / 4)
                try:
                    await send()
                except (aiohttp.ClientError, CircuitBreakerOpenError):
                    await asyncio.sleep(0)

        for share in (0.0, 0.6, 1.0, 0.1, 0.9, 0.0):
            genesys.flaky(share, seed=3)
            await asyncio.gather(*(work() for _ in range(4)))
    recording.close()
    [recorded] = read_recording(tmp_path / "outcomes").regions
    assert recorded.count() == 6 * 4 * 60
    assert len(changes) > 10
    replayed = replay(recorded).transitions
    assert [(one.old, one.new, one.rule) for one in replayed] == [
        (one.old, one.new, one.rule) for one in changes
    ]
    assert compare(recorded, {}).differences == 0
