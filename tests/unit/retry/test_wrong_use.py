"""The decorators of `resilience.retry` without, or with, their parentheses."""

import pytest

from resilience.retry import gate, transient_retry
from tests.support.decorated import send_message


@pytest.mark.parametrize(("given", "got"), [(send_message, "function"), (5, "int")])
def test_transient_retry_without_its_parentheses_shows_the_right_line(given, got):
    with pytest.raises(TypeError) as caught:
        transient_retry(given)
    assert str(caught.value) == (
        f"@transient_retry takes its arguments by keyword, got {got}: @transient_retry()"
    )


def test_gate_with_parentheses_shows_the_right_line():
    with pytest.raises(TypeError, match=r"has no parentheses: @gate$"):
        gate()


@pytest.mark.parametrize("decorate", [gate, transient_retry()], ids=["gate", "transient_retry"])
def test_the_error_for_a_generator_shows_what_to_decorate(decorate):
    async def rows():
        yield 1

    with pytest.raises(TypeError, match=r"cannot decorate the generator .*rows: decorate the fun"):
        decorate(rows)
