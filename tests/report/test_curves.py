from dataclasses import replace

import pytest

from augcond.report.curves import MOST_CURVES, curves_of, draw_curves
from augcond.report.figures import drawing, save_figure
from tests.report.runs import arm, make_results


def swept(name, overall=(0.5, 0.6), kind="synthetic", interval=None, **settings):
    found = arm(name, kind, overall)
    return replace(found, settings={key.replace("__", "."): v for key, v in settings.items()}, interval=interval)


def text(guidance, overall, interval):
    name = f"text guidance_scale={guidance}"
    return swept(name, overall, interval=interval, generator__guidance_scale=guidance, conditioning__recipe="text")


GUIDANCE = make_results(
    arms=(
        swept("real-only", kind="real-only"),
        text(10, (0.5, 0.6), (0.4, 0.7)),
        text(2.5, (0.4, 0.7), (0.3, 0.8)),
        swept("image guidance_scale=2.5", (0.8,), generator__guidance_scale=2.5, conditioning__recipe="image"),
    )
)


def test_arms_that_differ_in_the_axis_alone_make_a_curve():
    (along,) = curves_of(GUIDANCE)
    assert (along.key, along.title) == ("generator.guidance_scale", "guidance scale")
    assert [(curve.name, [point.x for point in curve.points]) for curve in along.curves] == [
        ("text", [2.5, 10.0]),
        ("image", [2.5]),
    ]
    assert [curve.name for curve in along.references] == ["real-only"]


def test_bands_are_the_intervals_of_the_results():
    (along,) = curves_of(GUIDANCE)
    assert [(point.low, point.high) for point in along.curves[0].points] == [(0.3, 0.8), (0.4, 0.7)]
    assert along.curves[1].points[0].low is None


def test_shots_are_a_curve_of_real_images_alone_too():
    results = make_results(
        arms=tuple(
            swept(f"{name} k={k}", kind=kind, data__split__k=k)
            for k in (1, 2, 16)
            for name, kind in (("real-only", "real-only"), ("image", "synthetic"))
        )
    )
    (along,) = curves_of(results)
    assert {curve.name: len(curve.points) for curve in along.curves} == {"real-only": 3, "image": 3}
    with drawing():
        figure = draw_curves(along, "validation")
    assert figure.axes[0].get_xscale() == "log"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "2", "16"]


@pytest.mark.parametrize("values", [("text", "image"), (True, False), (3, 3), ([1], [2])])
def test_other_axes_have_no_curves(values):
    arms = tuple(swept(f"a{i} x={value}", x__y=value) for i, value in enumerate(values))
    assert curves_of(make_results(arms=arms)) == ()
    assert curves_of(make_results()) == ()


def test_leaky_arms_are_marked():
    arms = tuple(replace(swept(f"image k={k}", data__split__k=k), leaky=True) for k in (1, 2))
    assert curves_of(make_results(arms=arms))[0].curves[0].name == "image (leaky)"


def test_more_curves_than_fit_are_counted(tmp_path):
    arms = tuple(swept(f"<b>{i}</b> steps={s}", generator__steps=s) for i in range(MOST_CURVES + 2) for s in (5, 9))
    (along,) = curves_of(make_results(arms=arms))
    assert along.left_out == 2
    with drawing():
        text = save_figure(draw_curves(along, "test"), tmp_path, "steps")
    assert "&lt;b&gt;11&lt;/b&gt;" in text and "&lt;b&gt;12&lt;/b&gt;" not in text


def test_the_figure_shows_means_bands_and_references(tmp_path):
    (along,) = curves_of(GUIDANCE)
    with drawing():
        figure = draw_curves(along, "test")
        text = save_figure(figure, tmp_path, "guidance")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "guidance scale" and axes.get_ylabel() == "test accuracy (%)"
    assert len(axes.collections) == 1  # one band: the other curve has one place and one seed
    bottom, top = axes.get_ylim()
    assert bottom < 50 and 80 < top < 100
    assert "real-only" in text
