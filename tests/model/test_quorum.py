"""What a quorum costs and what it saves: the table in the docs is what comes of it."""

import re
from pathlib import Path
from statistics import mean

import pytest

from tests.support.quorums import play

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "share-circuits.md"
SEEDS = range(2)


def rejected(**fleet):
    """Return which share of the calls of healthy processes is rejected, in percent."""
    return (
        f"{mean(play(rate=1.0, seconds=240.0, seed=seed, **fleet).rejected for seed in SEEDS):.0%}"
    )


def failed(**fleet):
    """Return how many calls fail until all circuits are open."""
    return f"{mean(play(is_down=True, seed=seed, **fleet).failed for seed in SEEDS):.0f}"


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_the_table_in_the_docs_has_the_figures_of_a_fleet_of_five(quorum):
    row = [
        str(quorum),
        rejected(quorum=quorum, sick=1),
        rejected(quorum=quorum, sick=2),
        failed(quorum=quorum),
    ]
    rows = re.findall(r"\| (\d) \| (\d+ ?%) \| (\d+ ?%) \| (\d+) \|", PAGE.read_text("utf-8"))
    assert tuple(row) in [tuple(cell.replace(" ", "") for cell in found) for found in rows]


def test_a_quorum_that_a_fleet_cannot_reach_shares_no_opening():
    for processes in (1, 2):
        figures = play(quorum=3, processes=processes, is_down=True)
        assert figures.failed == 10 * processes, "each learns for itself"
