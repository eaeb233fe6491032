from dataclasses import replace

from augcond.evaluation.results import Difference
from augcond.report.accuracy import draw_class_changes, draw_gains, shown_changes, view_accuracy
from augcond.report.verdict import answers, gain_text
from tests.report.runs import arm, gain, make_results


def by_question(facts, quality=None, results=None):
    return {answer.question: answer for answer in answers(facts, quality, results, 123_000)}


def test_a_run_without_results_says_what_is_not_known(facts):
    found = by_question(facts)
    assert found["Did it help?"].tone == found["Does it look right?"].tone == "unknown"
    assert "no classifier was trained" in found["Did it help?"].answer
    assert "31 real images in 5 classes" in found["What did I have?"].answer
    assert "1 file could not be used" in found["What did I have?"].answer
    assert "123.0 kB" in found["What did it cost?"].answer
    assert found["Can I trust it?"].tone == "look" and "rows failed" in found["Can I trust it?"].answer


def test_a_gain_is_told_with_its_interval(facts):
    found = by_question(facts, results=make_results())["Did it help?"]
    assert found.answer.startswith(
        "Test accuracy over real-only: image +11.0 points (95 % interval +6.0 to +16.0): gain. Verdicts: the gain in "
        "overall accuracy over real-only, corrected for 2 comparisons (Holm)"
    )
    assert found.tone == "good"


def test_of_many_arms_none_is_singled_out(facts):
    names = ("text", "image", "mixup")
    results = make_results(
        arms=(arm("real-only", "real-only", (0.5,)), *(arm(name, "synthetic", (0.6,)) for name in names)),
        differences=tuple(gain(name, mean) for name, mean in zip(names, (-0.1, 0.01, 0.1), strict=True)),
    )
    found = by_question(facts, results=results)["Did it help?"]
    assert "Of 3 arms, 1 gain in test accuracy over real-only, 1 lose, and 1 are not decided." in found.answer
    assert found.tone == "look"


def test_an_interval_over_zero_is_no_gain(facts):
    unsure = by_question(facts, results=make_results(differences=(gain("image", 0.01),)))["Did it help?"]
    assert unsure.tone == "look" and "): undecided." in unsure.answer


def test_below_five_seeds_there_is_no_good_news(facts):
    few = by_question(facts, results=make_results(differences=(gain("image", 0.11, seeds=4),)))["Did it help?"]
    assert few.tone == "look" and "gain (only 4 seeds: others may well say otherwise)" in few.answer
    two = Difference("image", "real-only", "overall", 0.11, (0.1, 0.12), family=1, verdict="too few seeds")
    found = by_question(facts, results=make_results(differences=(two,)))["Did it help?"]
    assert found.tone == "look"
    assert "+11.0 points (too few seeds for an interval: +10.0, +12.0): too few seeds." in found.answer


def test_validation_accuracy_is_called_so(facts):
    found = by_question(facts, results=make_results(on="validation"))["Did it help?"]
    assert found.answer.startswith("Validation accuracy over real-only: image +11.0 points")


def test_leaky_numbers_are_marked(facts):
    leaky = make_results(leaky=True, leaks=("validation images among the training images",))
    found = by_question(facts, results=leaky)
    assert "leaky" in found["Did it help?"].answer and found["Did it help?"].tone == "look"
    assert "leaks" in found["Can I trust it?"].answer


def test_points_have_their_sign():
    assert gain_text(gain("a", -0.021, 0.023)) == "-2.1 points (95 % interval -4.4 to +0.2): undecided"


def test_changes_per_class_are_means_over_the_seeds():
    accuracy = view_accuracy(make_results())
    assert accuracy.others == ("image", "more-real")
    heron, frog, lighthouse = accuracy.classes
    assert round(heron.baseline, 6) == 0.55 and [round(c, 6) for c in heron.changes] == [0.11, 0.15]
    # No test image, no accuracy.
    assert frog.baseline is None and frog.changes == (None, None)
    assert [line.class_name for line in shown_changes(accuracy, 2)] == [heron.class_name, lighthouse.class_name]


def test_only_arms_that_were_compared_are_drawn():
    assert draw_gains(view_accuracy(make_results(differences=()))) is None
    assert draw_gains(view_accuracy(make_results())) is not None
    alone = make_results()
    assert draw_class_changes(view_accuracy(replace(alone, arms=alone.arms[:1]))) is None
