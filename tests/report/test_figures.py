import xml.etree.ElementTree as ElementTree

import pytest

from augcond.report.facts import ClassFacts
from augcond.report.figures import draw_counts, drawing, inline_svg, save_figure, shorten


def classes(names):
    return [ClassFacts(i, n, n, 3 * len(names) - i, 5, 5, 0, "few") for i, n in enumerate(names)]


def drawn(names):
    with drawing():
        return draw_counts(classes(names))


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
    for name in ("counts.png", "counts.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "<text" in (tmp_path / "one" / "counts.svg").read_text()


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
