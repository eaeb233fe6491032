"""The study: cut by round, proposals that do not depend on who asks, mended after a kill, of one config only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augcond.errors import RunMismatchError
from augcond.evaluation.tuning_choice import Folded
from augcond.experiments.tuning.candidates import designed, with_models
from augcond.experiments.tuning.schedule import Pilot, Schedule
from augcond.experiments.tuning.study import Search, by_turns, settled
from tests.training.toys import toy_run

SCHEDULE = Schedule((Pilot(8, 4, 12), Pilot(2, 8, 3)), 2, 48)
RECIPES = ["mixup", "embed-cutmix-dropout", "image", "dropout", "text"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("toy"), conditioning={"recipe": "mixup"})


def begun(path, config):
    search = Search(path, config, SCHEDULE, RECIPES)
    search.add(with_models(config, designed(config)[0][:6], 10))
    search.report(0, scored([each.name for each in search.candidates(0)]))
    return search


def scored(names, sides=None):
    """Return folds in which each candidate is right on one more image than the one before; or on those of a side."""
    labels = np.zeros(2 * len(names), dtype=int)
    real = np.zeros((1, len(labels)), dtype=bool)
    right = {}
    for place, name in enumerate(names):
        row = real.copy()
        one, other = (np.flatnonzero(side) for side in Folded(labels, labels, real, {}).sides)
        better = (place, place) if sides is None else sides[place]
        row[0, one[: better[0]]] = row[0, other[: better[1]]] = True
        right[name] = row
    return Folded(labels, labels, real, right)


def test_a_round_is_cut_to_sets_and_candidates(tmp_path, config):
    search = begun(tmp_path / "study.log", config)
    assert len(search.candidates(0)) == 10
    search.cut(0)
    going_on = search.candidates(1)
    # The best are last: ways to train on the first four sets, of which two sets go on.
    assert len({each.set_name for each in going_on}) == 2
    assert len(going_on) == 3
    # A second process, or the same one again, sees and does the same.
    again = begun(tmp_path / "study.log", config)
    again.cut(0)
    assert again.candidates(1) == going_on
    again.finish(scored([each.name for each in going_on]))


def test_proposals_are_new_sets_and_the_same_for_all(tmp_path, config):
    first = begun(tmp_path / "one.log", config).propose(2, 0)
    assert len({each.set_name for each in first}) == 2
    search = begun(tmp_path / "other.log", config)
    assert search.propose(1, 0) == first[:1]
    assert search.propose(2, 0) == first
    assert not {each.set_name for each in first} & {each.set_name for each in search.candidates(0)}
    assert set(search.known()) == {each.name for each in (*first, *search.candidates(0))}


def test_a_line_that_was_cut_short_is_mended(tmp_path, config):
    path = tmp_path / "study.log"
    search = begun(path, config)
    before = search.candidates(0)
    with path.open("ab") as file:
        file.write(b'{"op_code":6,"worker')
    search.mend()
    search.report(1, scored([before[0].name]))
    assert begun(path, config).candidates(0) == before


def test_a_study_of_something_else_is_refused(tmp_path):
    path = tmp_path / "tuning" / "study.log"
    about = {"budget": "20", "generator": {"steps": 4}}
    assert settled(path, about, None) == 0
    assert settled(path, about, 20) == 20
    # What the first one settled stands.
    assert settled(path, about, 30) == 20
    with pytest.raises(RunMismatchError, match=r"generator\.steps: the run has 4, this config 5"):
        settled(path, about | {"generator": {"steps": 5}}, 20)


def test_each_side_keeps_a_line_of_its_own(tmp_path, config):
    search = Search(tmp_path / "study.log", config, Schedule((Pilot(4, 4, 4), Pilot(3, 8, 3)), 0, 48), RECIPES)
    search.add(designed(config)[0][:4])
    names = [each.name for each in search.candidates(0)]
    assert search.lines(0) is None
    # One is best on one side and another on the other, the third best over both; the config itself is the worst.
    search.report(0, scored(names, [(0, 0), (4, 0), (3, 3), (1, 4)]))
    search.cut(0)
    assert names[0] == "as-configured"
    assert search.lines(1) == ([names[0], names[1]], [names[0], names[3]])
    assert {each.name for each in search.candidates(1)} == {names[0], names[1], names[3]}


@given(st.data())
def test_sides_keep_the_best_of_their_own(data):
    count = data.draw(st.integers(1, 8))
    sets = {place: f"set {data.draw(st.integers(0, 3))}" for place in range(count)}
    pilot = Pilot(data.draw(st.integers(1, 4)), 4, data.draw(st.integers(1, 8)))
    ranked = data.draw(st.permutations(range(count))), data.draw(st.permutations(range(count)))
    default = data.draw(st.sampled_from([[], [0]]))
    lines = by_turns(ranked, sets, pilot, default)
    kept = {*lines[0], *lines[1]}
    assert all(list(line[: len(default)]) == default for line in lines)
    assert 0 < len(kept) <= pilot.candidates and len({sets[place] for place in kept}) <= pilot.sets
    for line, order in zip(lines, ranked, strict=True):
        order = [*default, *(place for place in order if place not in default)]
        assert list(line) == [place for place in order if place in line]
        # What it passed over was of a set that it had not, when there were sets enough.
        own = {sets[place] for place in line}
        assert all(place in line or sets[place] not in own for place in order[: len(line)])
    # Nothing is left out while there is room.
    if len(kept) < min(count, pilot.candidates):
        assert len({sets[place] for place in kept}) == pilot.sets
