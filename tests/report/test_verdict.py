from dataclasses import replace

from augcond.evaluation.power import components, needed
from augcond.evaluation.results import Difference, Setup, Spread
from augcond.report.accuracy import draw_class_changes, draw_gains, shown_changes, view_accuracy
from augcond.report.findings import difference_text, find
from augcond.report.verdict import answers
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


def told(answer):
    return " ".join((answer.answer, *answer.points))


def test_the_answer_comes_first_with_its_interval(facts):
    first = answers(facts, None, make_results(), 123_000)[0]
    assert first.question == "Did it help?" and first.tone == "good"
    assert first.answer == "Yes: image is decided to be better than real-only."
    assert "Better than real-only, decided: image +11.0 points (95\xa0% interval +6.0 to +16.0)." in first.points
    assert "corrected for 2 comparisons (Holm)" in first.points[-1]


def test_arms_are_named_by_what_is_decided(facts):
    names = ("text", "image", "mixup")
    results = make_results(
        arms=(arm("real-only", "real-only", (0.5,)), *(arm(name, "synthetic", (0.6,)) for name in names)),
        differences=tuple(gain(name, mean) for name, mean in zip(names, (-0.1, 0.01, 0.1), strict=True)),
    )
    found = by_question(facts, results=results)["Did it help?"]
    assert found.answer.startswith("Yes: mixup is decided to be better than real-only. Of the other 2, none is")
    assert "Worse than real-only, decided: text -10.0 points" in told(found)
    assert "Not decided against real-only: image +1.0 points" in told(found)
    assert found.tone == "look"


def test_a_table_without_a_decided_gain_reads_as_such(facts):
    unsure = by_question(facts, results=make_results(differences=(gain("image", 0.01),)))["Did it help?"]
    assert unsure.tone == "look"
    assert unsure.answer.startswith("Not shown: no arm is decided to be better or worse than real-only.")
    assert "decided: " not in told(unsure).replace("Not decided against", "")


def test_it_is_said_how_many_seeds_would_decide(facts):
    spread = Spread(3, 4e-4, 5e-5, 1e-5)
    one = replace(gain("image", 0.02, reach=0.04, seeds=3), spread=spread)
    (found,) = find(make_results(differences=(one,))).against["real-only"]
    assert found.seeds == needed(components(make_results(differences=(one,))), 0.02, (1,))[0].seeds > 3
    said = told(by_question(facts, results=make_results(differences=(one,)))["Did it help?"])
    assert f"a true difference of that size takes {found.seeds} seeds to decide" in said
    tiny = replace(one, mean=0.0005, low=-0.04, high=0.04)
    assert find(make_results(differences=(tiny,))).against["real-only"][0].out_of_reach


def test_text_and_the_few_classes_are_told_beside(facts):
    over_text = replace(gain("image", -0.03, 0.02), baseline="text", family=0, verdict="exploratory")
    few = replace(gain("image", 0.2, 0.3), metric="few", family=0, verdict="exploratory")
    many = replace(gain("image", -0.2, 0.1), metric="many", family=0, verdict="exploratory")
    arms = (*make_results().arms[:2], arm("text", "synthetic", (0.6, 0.6)))
    found = make_results(arms=arms, differences=(gain("image", 0.11), over_text, few, many))
    said = told(by_question(facts, results=found)["Did it help?"])
    assert "Against text (prompts alone), exploratory: image -3.0 points" in said
    assert "-5.0 to -1.0), clear of 0." in said
    assert "On the few classes over real-only, exploratory: image +20.0 points" in said and "which holds 0" in said
    assert "what it costs elsewhere, exploratory: image on many -20.0 points" in said


def test_below_five_seeds_there_is_no_good_news(facts):
    few = by_question(facts, results=make_results(differences=(gain("image", 0.11, seeds=4),)))["Did it help?"]
    assert few.tone == "look" and "Only 4 seeds: others may well say otherwise" in told(few)
    two = Difference("image", "real-only", "overall", 0.11, (0.1, 0.12), family=1, verdict="too few seeds")
    found = by_question(facts, results=make_results(differences=(two,)))["Did it help?"]
    assert found.tone == "look" and found.answer == "Not known: 2 seeds can decide nothing; it takes 3 at least."
    assert "image +11.0 points (too few seeds for an interval: +10.0, +12.0)" in told(found)


def above_the_ceiling(setup, few, overall=0.9):
    image = replace(arm("image", "synthetic", (overall,)), setup=REAL_COUNTS)
    image = replace(image, mean=replace(image.mean, few=few))
    arms = (arm("real-only", "real-only", (0.5,)), image, replace(arm("top", "ceiling", (0.7,)), setup=setup))
    results = make_results(arms=arms, differences=(gain("image", 0.4),))
    return [line for line in find(results).sentences if line.startswith("Above top")]


REAL_COUNTS = Setup("balanced-softmax", "real", 64, 0.5)
EFFECTIVE = replace(REAL_COUNTS, counts="effective")


def test_an_arm_above_the_ceiling_is_explained():
    (said,) = above_the_ceiling(REAL_COUNTS, few=0.9)
    assert "image on overall (90.0 against 70.0)" in said and "ceiling_counts=effective mends it" in said
    (said,) = above_the_ceiling(EFFECTIVE, few=0.9)
    assert "is chance, or images that teach more" in said
    # Only on some classes: another count in the loss moves accuracy from one group to another.
    (said,) = above_the_ceiling(EFFECTIVE, few=0.9, overall=0.6)
    assert "image on few (90.0 against 35.0)" in said and "theirs the real images" in said
    assert above_the_ceiling(EFFECTIVE, few=0.1, overall=0.6) == []


def test_one_class_is_remarked_on():
    results = make_results(classes=("heron",), class_names=("heron",))
    assert find(results).sentences[0].startswith("There is one class")


def test_validation_accuracy_is_called_so(facts):
    found = by_question(facts, results=make_results(on="validation"))["Did it help?"]
    assert found.answer.startswith("Yes on validation images, where choices are made:") and found.tone == "look"


def test_leaky_numbers_are_marked(facts):
    leaky = make_results(leaky=True, leaks=("validation images among the training images",))
    found = by_question(facts, results=leaky)
    assert "leaky" in told(found["Did it help?"]) and found["Did it help?"].tone == "look"
    assert "leaks" in found["Can I trust it?"].answer


def test_points_have_their_sign():
    assert difference_text(gain("a", -0.021, 0.023)) == "-2.1 points (95\xa0% interval -4.4 to +0.2)"


def test_counts_are_those_of_one_arm(facts):
    made = by_question(facts)["What was made?"].answer
    # Twelve a class, by one recipe; four recipes are never added up.
    assert "Each of 4 arms would be trained on" in made and "to 12 images a class, where 2 to 12 are real" in made


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
