"""Tables as they come out of terminals of several widths."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from augcond.cli.tables import print_results
from tests.report.runs import arm, gain, make_results

NAMES = ("real-randaugment", "embed-cutmix-dropout", "embed-mixup-dropout-across")


def printed(results, width):
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=width, markup=False, emoji=False, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("leaky", [False, True])
def test_the_name_of_a_recipe_is_in_one_piece_at_every_width(width, leaky):
    arms = tuple(replace(arm(name, "synthetic", (0.5, 0.6)), leaky=leaky) for name in ("real-only", *NAMES))
    text = printed(make_results(arms=arms, differences=tuple(gain(name, 0.1) for name in NAMES)), width)
    for name in NAMES:
        assert any(line.strip().startswith(name) for line in text.splitlines())
    assert text.count(["+10.0", "(+5.0", "to", "+15.0)"][0]) == 3
    table = text.split("percent of")[0]
    assert all(len(line.rstrip()) <= width for line in table.splitlines() if not line.endswith(":"))


def test_what_does_not_fit_stands_below_and_then_as_paragraphs():
    results = make_results()
    wide, middle, narrow = (printed(results, width) for width in (120, 60, 40))
    assert wide.splitlines()[1].split() == ["arm", "overall", "many", "medium", "few", "gain"]
    assert middle.splitlines()[1].split() == ["arm", "overall", "many", "medium", "few"]
    assert "\n  image: +11.0 (+6.0 to +16.0)\n" in middle
    assert "\nmore-real:\n  overall 70.0" in narrow
