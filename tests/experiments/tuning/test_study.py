"""The study: cut by round, proposals that do not depend on who asks, mended after a kill, of one config only."""

import pytest

from augcond.errors import RunMismatchError
from augcond.experiments.tuning.candidates import designed, with_models
from augcond.experiments.tuning.schedule import Pilot, Schedule
from augcond.experiments.tuning.study import Search, settled
from tests.training.toys import toy_run

SCHEDULE = Schedule((Pilot(8, 4, 12), Pilot(2, 8, 3)), 2, 48)
RECIPES = ["mixup", "embed-cutmix-dropout", "image", "dropout", "text"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("toy"), conditioning={"recipe": "mixup"})


def begun(path, config):
    search = Search(path, config, SCHEDULE, RECIPES)
    search.add(with_models(config, designed(config)[0][:6], 10))
    search.report(0, {each.name: place / 100 for place, each in enumerate(search.candidates(0))})
    return search


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
    again.finish({each.name: 0.5 for each in going_on})


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
    search.report(1, {before[0].name: 0.2})
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
