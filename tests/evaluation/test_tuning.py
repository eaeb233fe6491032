"""What a tuning concludes: gains that picking does not raise, intervals, and a file that says when it is damaged."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from augcond.errors import CorruptRunError, RunError
from augcond.evaluation.tuning import Gain, Round, Tried, Tuning, read_tuning, write_tuning
from augcond.evaluation.tuning_choice import Choice, Folded, choice_of, own_gain, sentence_of, spearman


def fives(labels):
    """Return folds of five, one image after the other."""
    return np.arange(len(labels)) % 5


def folded(candidates, *, counts=(20, 20, 20), trainings=4, seed=0):
    """Return folds whose images are right with a probability for each candidate; `real` for real images alone."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    right = {name: rng.random((trainings, len(labels))) < chance for name, chance in candidates.items()}
    return Folded(labels, fives(labels), right.pop("real"), right)


def tuning(**changes):
    gain = Gain(0.02, -0.01, 0.05)
    tried = (Tried("a", {"generator.steps": 4}, 0.03, kept=True), Tried("b", {}, 0.0, kept=False))
    values = {
        "chosen": "a",
        "settings": {"generator.steps": 4},
        "gain": gain,
        "finalists": (("a", gain),),
        "sentence": "s",
        "budget": "20",
        "images": 20,
        "real_images": 8,
        "judged_images": 8,
        "classes": 2,
        "folds": 2,
        "trainings": 4,
        "real_accuracy": 0.5,
        "rounds": (Round(10, 20, "training", tried, gain),),
        "rank_correlation": 0.7,
        "compared": 8,
        "left_out": ("mixup: why",),
        "notes": (),
        "study_sha256": "ab",
    }
    return Tuning(**(values | changes))


def test_the_best_of_equals_is_not_estimated_to_gain():
    estimates, looks = [], []
    for seed in range(40):
        equals = folded({"real": 0.5, **{f"c{number}": 0.5 for number in range(6)}}, seed=seed)
        found = choice_of(equals, later=3)
        estimates.append(found.gain.mean)
        looks.append(equals.score(found.best))
    assert np.mean(looks) > 0.03
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))


@pytest.mark.parametrize("shared", ["images", "trainings"])
def test_luck_that_all_trainings_or_all_images_share_is_no_gain(shared):
    """Six equals: what one training gets right all do, or what one image shows all of its class do."""
    labels = np.repeat([0, 1, 2], 20)
    estimates = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = (1, 60) if shared == "images" else (4, 1)
        right = {f"c{number}": np.broadcast_to(rng.random(size) < 0.5, (4, 60)) for number in range(6)}
        estimates.append(
            choice_of(Folded(labels, fives(labels), np.tile(labels < 0, (4, 1)), right), later=3).gain.mean
        )
    # Each is right on half; the best of six would be more.
    assert np.mean(estimates) == pytest.approx(0.5, abs=0.025 if shared == "images" else 0.06)


def test_a_side_picks_from_its_own_line():
    one = right_on(mine=(0, 0), other=(20, 0))
    all_in, apart = (
        choice_of(one, later=3, lines=lines, default="mine")
        for lines in ((["mine", "other"], ["mine", "other"]), (["mine"], ["mine", "other"]))
    )
    assert all_in.chosen == apart.chosen == "other"
    sides = one.sides
    ahead = one.differences("other").mean(axis=0)
    assert all_in.gain.mean == pytest.approx(0.2)
    # What the first side picks is read off the second: nothing of it.
    assert apart.gain.mean == pytest.approx(float(ahead @ np.where(sides[0], one.weights, 0.0)))


def test_a_true_gain_is_found_and_estimated():
    one = folded({"real": 0.4, "worse": 0.3, "better": 0.7}, counts=(60, 60))
    found = choice_of(one, later=3)
    gain = found.gain
    assert found.chosen == found.best == "better"
    assert gain.low < 0.3 < gain.high
    assert gain.mean == pytest.approx(0.3, abs=0.08)
    assert own_gain(one, "better", later=3).mean == pytest.approx(one.score("better"))


def test_every_class_counts_alike():
    labels = np.array([0] * 8 + [1, 1])
    real = np.zeros((2, 10), dtype=bool)
    tail = np.tile(labels == 1, (2, 1))
    one = Folded(labels, fives(labels), real, {"tail": tail, "head": ~tail})
    assert one.score("tail") == pytest.approx(0.5)
    assert one.score("head") == pytest.approx(0.5)


def test_intervals_narrow_with_images_and_with_later_trainings():
    few, many = (folded({"real": 0.5, "a": 0.6}, counts=(count, count)) for count in (10, 1000))
    assert _width(own_gain(many, "a", later=3)) < _width(own_gain(few, "a", later=3)) / 3
    assert _width(own_gain(many, "a", later=10)) < _width(own_gain(many, "a", later=1))


def test_an_interval_reaches_towards_nothing_by_the_share_of_images_that_folds_leave_out():
    two, five = np.arange(100) % 2, np.arange(100) % 5
    for changed, sign in (((20, 0), 1), ((0, 20), -1)):
        one = right_on(mine=changed)
        half, fifth = (
            own_gain(Folded(one.labels, folds, one.real, one.made), "mine", later=3) for folds in (two, five)
        )
        assert half.mean == fifth.mean == pytest.approx(0.2 * sign)
        # Away from nothing both reach as far; towards it by 0.5 and by 0.2 of the estimate further.
        near, away = ("low", "high") if sign > 0 else ("high", "low")
        assert getattr(half, away) == pytest.approx(getattr(fifth, away))
        assert getattr(half, near) - getattr(fifth, near) == pytest.approx(-0.06 * sign)
        assert abs(getattr(fifth, near) - fifth.mean) - abs(getattr(fifth, away) - fifth.mean) == pytest.approx(0.04)
    # Of classes of unequal size each counts alike.
    labels, right = np.array([0] * 10 + [1, 1]), np.zeros((2, 12), dtype=bool)
    assert Folded(labels, np.array([*five[:10], 3, 1]), right, {}).left_out == pytest.approx((1 / 5 + 1 / 2) / 2)


def _width(gain):
    return gain.high - gain.low


def test_one_training_has_an_interval_too():
    gain = choice_of(folded({"real": 0.5, "a": 0.6}, trainings=1), later=3).gain
    assert gain.low < gain.mean < gain.high


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_scipys(seed):
    one, other = np.random.default_rng(seed).integers(0, 5, (2, 12))
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(one, np.ones(12)) == 0.0


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "tuning.json"
    with pytest.raises(RunError, match="augcond tune"):
        read_tuning(path)
    for found in (tuning(), tuning(gain=None, finalists=(), rounds=(), real_accuracy=None)):
        write_tuning(path, found)
        assert read_tuning(path) == found
    path.write_text(path.read_text(encoding="utf-8").replace('"images": 20', '"images": 21'), encoding="utf-8")
    with pytest.raises(CorruptRunError, match=r"tuning\.json"):
        read_tuning(path)


def right_on(**changed):
    """Return folds of 100 images of one class, of which real images alone are right on half.

    Args:
        changed: of each candidate, how many more it is right on and how many fewer.
    """
    place = np.arange(100)
    made = {name: (place < 50 + more) & (place >= fewer) for name, (more, fewer) in changed.items()}
    twice = {name: np.tile(one, (2, 1)) for name, one in {"real": place < 50, **made}.items()}
    labels = np.zeros(100, dtype=int)
    return Folded(labels, fives(labels), twice.pop("real"), twice)


def test_the_default_is_kept_unless_another_leads_by_more_than_one_standard_error():
    # What differs in k of 100 images has a standard error of some sqrt(k) images.
    for changed, best in (((4, 2), "mine"), ((6, 4), "mine"), ((7, 3), "other"), ((5, 2), "other"), ((5, 3), "mine")):
        folds = right_on(mine=(0, 0), other=changed)
        found = choice_of(folds, later=3, default="mine")
        assert found.chosen == found.best == best
        assert found.passed == ("other" if best == "mine" else None)
        if best == "mine":
            assert found.gain == own_gain(folds, "mine", later=3)
    # Real images alone are one of what it is compared with.
    kept, left = (choice_of(right_on(mine=changed), later=3, default="mine") for changed in ((4, 6), (0, 9)))
    assert (kept.chosen, kept.best) == ("mine", "mine")
    assert (left.chosen, left.best) == ("real-only", "mine")
    assert left.gain.mean == pytest.approx(-0.09)
    # A noisy one that scores higher hides nothing that leads for sure.
    found = choice_of(right_on(mine=(0, 4), better=(0, 0), noisy=(40, 39)), later=3, default="mine")
    assert (found.chosen, found.passed) == ("better", "noisy")
    # Where the config's own cannot be tried, real images alone are kept, whatever scores a little higher.
    for changed, best in (((0, 1), "real-only"), ((6, 4), "real-only"), ((9, 4), "a")):
        found = choice_of(right_on(a=changed, b=(0, 2)), later=3)
        assert (found.chosen, found.best) == (best, "a")


def test_sentences():
    def told(chosen, gain, passed=None, default="as-configured"):
        return sentence_of(Choice(chosen, "a", Gain(*gain), passed, default))

    nothing = (-0.01, -0.1, 0.1)
    assert told("real-only", nothing).startswith("None of these is shown to help: the best, a,")
    assert told("real-only", nothing).endswith("More real images would.")
    assert "not shown to help or to harm" in told("a", nothing)
    assert "too few to decide" in told("a", (0.01, -0.1, 0.1))
    assert told("a", (-0.1, -0.15, -0.05)).endswith("a loss.")
    assert told("a", (0.1, 0.05, 0.15)).endswith("a gain.")
    assert "b scored higher, but does not lead the config's own" in told("a", nothing, "b")
    assert "does not lead real images alone" in told("a", nothing, "b", default="real-only")
