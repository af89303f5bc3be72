"""The bars of `face-detailer detail`."""

import io

import pytest
from rich.console import Console

from server.cli.bars import Bars


def test_a_bar_moves_to_and_fro_until_its_share_is_known_and_counts_in_that_of_all() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Bars(console, pictures=2) as bars, bars.picture("[a].jpg") as show:
        (over_all, task) = bars._bars.tasks
        show("detecting", 0)
        assert (task.total, over_all.percentage) == (None, 0)
        show("1 face, detail, step 20 of 20", 0.4)
        assert (task.percentage, over_all.percentage) == pytest.approx((40, 20))
        assert task.description == r"\[a].jpg: 1 face, detail, step 20 of 20"
        show("upscaling", 0.8)
        assert (task.percentage, over_all.percentage) == pytest.approx((80, 40))
        show("fetching", 0)
        assert (task.percentage, task.finished) == (80, False)
    assert over_all.percentage == 50
