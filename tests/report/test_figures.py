import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import pytest

from augcond.report.counts import ArmCounts
from augcond.report.facts import ClassFacts
from augcond.report.figures import SERIES, draw_counts, drawing, inline_svg, save_figure, shorten


def classes(names):
    return [ClassFacts(i, n, n, 3 * len(names) - i, 5, 5, 0, "few") for i, n in enumerate(names)]


def drawn(names):
    with drawing():
        return draw_counts(classes(names), [ArmCounts(("image",), (5,) * len(names), measured=False)])


@pytest.fixture
def inline(tmp_path):
    return lambda names, name="counts": inline_svg(save_figure(drawn(names), tmp_path, name))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "$x^2$ for $5", "鶴と蛙", "سلام"])
def test_any_class_name_is_drawn_as_text(name, inline):
    svg = inline([name, "plain"])

    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    texts = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert name in texts
    assert "<script" not in svg


def test_inline_figures_take_the_pages_colours_and_leave_its_style_alone(inline):
    svg = inline(["cat", "dog"])
    assert svg.startswith("<svg") and "var(--accent)" in svg and "var(--ink)" in svg
    assert "<style" not in svg and "<metadata" not in svg and 'aria-hidden="true"' in svg


def test_many_classes_become_curves(inline):
    assert "c7" not in inline([f"c{i}" for i in range(60)])
    assert "c7" in inline([f"c{i}" for i in range(40)])


def test_figures_are_files_with_the_same_bytes_every_time(tmp_path):
    for folder in ("one", "two"):
        save_figure(drawn(["cat", "dog"]), tmp_path / folder, "counts")
    for name in ("counts.png", "counts.svg", "counts.pdf"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "<text" in (tmp_path / "one" / "counts.svg").read_text()


def test_texts_of_a_figure_in_pdf_are_texts(tmp_path):
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: pip install pypdf")
    save_figure(drawn(["cat", "dog"]), tmp_path, "counts")
    (page,) = pypdf.PdfReader(tmp_path / "counts.pdf").pages
    assert {"cat", "dog", "image"} <= set(page.extract_text().split())


def test_arms_of_equal_counts_share_a_panel():
    counts = [ArmCounts(("a", "b"), (5, 5), measured=True), ArmCounts(("c",), (1, 1), measured=True)]
    with drawing():
        figure = draw_counts(classes(["cat", "dog"]), counts)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["each of a, b", "c"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_curve_can_be_told_from_the_paper(scheme):
    """At least 3:1, as the guidelines for graphics ask (WCAG 1.4.11)."""
    css = files("augcond.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    blocks = css.split("@media (prefers-color-scheme: dark)")
    block = blocks[0] if scheme == "light" else blocks[1].split("\n}")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    series = [colours["accent"], *(colours[f"series-{number}"] for number in range(2, len(SERIES) + 1))]
    assert len(set(series)) == len(SERIES)
    assert min(contrast(colour, colours["paper"]) for colour in series) >= 3
    if scheme == "light":
        assert series == list(SERIES)


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_ids_of_two_figures_do_not_meet(inline):
    def ids(name):
        root = ElementTree.fromstring(inline(["cat", "dog"], name))  # noqa: S314 - our own
        return {
            element.get("id")
            for element in root.iter()
            if element.tag.endswith(("clipPath", "path")) and element.get("id")
        }

    assert ids("one") and not {i for i in ids("one") & ids("two") if not i.startswith("patch")}


def test_long_names_are_cut():
    assert shorten("abcdef", 4) == "abc…" and shorten("abcd", 4) == "abcd"
