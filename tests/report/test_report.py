import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import ConfigError, CorruptRunError, GeneratorError, RunError
from augcond.evaluation.results import write_results
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder
from tests.report.runs import INJECTED, make_results, make_run, photo_config

SECTIONS = [
    *("summary", "accuracy", "errors", "data", "gallery"),
    *("misses", "fidelity", "copies", "cost", "provenance"),
]
PLAIN = ReportSettings(metrics=False)


class Collector(HTMLParser):
    """Collects the elements of a page, and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def parse(page):
    collector = Collector()
    collector.feed(page.read_text(encoding="utf-8"))
    return collector


def text_of(page):
    return re.sub(r"\s+", " ", " ".join(parse(page).texts))


def copy_of(run_folder, tmp_path):
    shutil.copytree(run_folder.path, tmp_path / "copy", ignore=shutil.ignore_patterns("report"))
    return RunFolder(tmp_path / "copy")


def test_the_page_has_every_section_and_its_files(page):
    found = parse(page)
    assert [a["id"] for a in found.of("section")] == SECTIONS
    images = [a["src"] for a in found.of("img")]
    links = [a["href"] for a in found.of("a") if not a["href"].startswith("#")]
    assert images and links
    assert all((page.parent / name).is_file() for name in images + links)
    anchors = {a["href"][1:] for a in found.of("a") if a["href"].startswith("#")}
    ids = [a["id"] for _, a in found.elements if "id" in a]
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert anchors <= set(ids) and len(ids) == len(set(ids))


def test_nothing_is_asked_of_any_other_place(page):
    # A hash in base64 is no address.
    text = re.sub(r"'sha256-[^']*'", "", page.read_text(encoding="utf-8"))
    addresses = set(
        re.findall(r"""(?:https?:)?//[^\s"'<>)]+""", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    )
    assert all(
        address.startswith(("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")) for address in addresses
    )
    assert not re.search(r"@import|url\(", text.split("</style>")[0])


def test_names_of_the_run_are_text_and_nothing_else(page):
    found = parse(page)
    # Two islands of data and our own script: a class called like a script is neither.
    assert [a.get("type") for a in found.of("script")] == ["application/json"] * 2 + [None]
    assert INJECTED in "".join(found.texts)
    assert not any("onerror" in attributes for _, attributes in found.elements)
    text = page.read_text(encoding="utf-8")
    assert INJECTED not in text and "<img src=x" not in text


def test_the_island_of_data_is_whole_json(page, facts):
    island = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', page.read_text(), re.DOTALL)
    data = json.loads(island[1])
    assert data["recipes"] == list(facts.recipes)
    assert [entry.class_name for entry in facts.classes] == [name for _, name in data["classes"]]
    names = [row["image"] for group in data["groups"] for row in group["rows"] if row["image"]]
    assert len(names) == facts.status.ok
    assert all((page.parent / "images" / name).is_file() for name in names)


def test_figures_for_a_paper_lie_beside_the_page(page):
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert names == {
        f"{name}.{kind}" for name in ("class-counts", "gallery", "misses") for kind in ("png", "svg", "pdf")
    }


def test_the_same_run_gives_the_same_page(page, run_folder, tmp_path):
    before = {path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*.*")}
    again = write_report(run_folder, ReportSettings(samples=40))
    assert before == {path.relative_to(again.parent): path.read_bytes() for path in again.parent.rglob("*.*")}


def test_sections_without_data_say_so(run_folder, tmp_path):
    text = text_of(write_report(copy_of(run_folder, tmp_path), PLAIN))
    assert "No classifier was evaluated on this run" in text
    assert text.count("Not measured: the report was made with --no-metrics.") == 3


def test_results_are_shown(run_folder, tmp_path, facts):
    folder = copy_of(run_folder, tmp_path)
    write_results(folder.path / "results.json", make_results())
    page = write_report(folder, PLAIN)

    text = text_of(page)
    assert "66.0 ± 5.0" in text and "+11.0 (+6.0 to +16.0)" in text
    assert "the accuracy was measured on other classes" in text
    assert "Leaky" not in text
    assert (page.parent / "figures" / "gain-1.svg").exists()
    assert (page.parent / "figures" / "class-change.png").exists()


def test_leaky_results_are_marked(run_folder, tmp_path):
    folder = copy_of(run_folder, tmp_path)
    results = make_results(leaky=True, leaks=("conditioning on <b>all</b> images",))
    results = replace(results, on="validation", arms=tuple(replace(arm, leaky=True) for arm in results.arms))
    write_results(folder.path / "results.json", results)
    text = text_of(write_report(folder, PLAIN))
    assert "Leaky protocol." in text and "conditioning on <b>all</b> images" in text
    assert text.count(" leaky ") >= 3
    assert "300 real validation images" in text and "not for claims" in text


def test_broken_results_are_an_error_not_an_empty_section(run_folder, tmp_path):
    folder = copy_of(run_folder, tmp_path)
    (folder.path / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(CorruptRunError, match=r"results\.json"):
        write_report(folder, PLAIN)


def test_an_unfinished_run_and_lost_photos_are_told(tmp_path):
    config, _ = make_run(tmp_path, plan={"per_class": 2}, engine={"shard_size": 8})
    folder = RunFolder(config.run)
    folder.marker_path(0).unlink()
    shutil.rmtree(config.data.path)
    text = text_of(write_report(folder))

    assert "the run is not finished (8 images left)" in text
    assert "Not measured: the real images to compare with cannot be read" in text
    assert "The source images cannot be shown" in text


def test_a_run_before_its_first_image_has_a_page(tmp_path):
    config, _ = make_run(tmp_path, plan={"per_class": 1}, engine={"shard_size": 500})
    folder = RunFolder(config.run)
    folder.marker_path(0).unlink()
    text = text_of(write_report(folder))
    assert "No image has been made yet." in text and "No shard is finished yet." in text
    assert "No row failed: none was tried yet." in text


def test_an_empty_plan_has_a_page(tmp_path):
    config, _ = make_run(tmp_path, plan={"per_class": 0, "fill_to": None})
    assert "Nothing was planned." in text_of(write_report(RunFolder(config.run)))


def test_a_generator_that_is_gone_names_the_way_out(run_folder, tmp_path, monkeypatch):
    def gone(config):
        raise GeneratorError("no such weights")

    monkeypatch.setattr("augcond.report.judge.load_generator", gone)
    with pytest.raises(GeneratorError, match="no such weights; augcond report --no-metrics"):
        write_report(copy_of(run_folder, tmp_path))


def test_a_report_that_fails_leaves_the_old_one(run_folder, tmp_path, monkeypatch):
    folder = copy_of(run_folder, tmp_path)
    folder.report_path.mkdir()
    folder.page_path.write_text("the old one", encoding="utf-8")
    monkeypatch.setattr("augcond.report.build.render_page", lambda page: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(folder, PLAIN)
    assert folder.page_path.read_text(encoding="utf-8") == "the old one"


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="samples >= 2"):
        ReportSettings(samples=1)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run"):
        write_report(RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_page(run_folder, tmp_path):
    folder = copy_of(run_folder, tmp_path)
    done = CliRunner().invoke(app, ["report", str(folder.path), "--no-metrics", "--pictures", "30"])
    assert done.exit_code == 0 and done.stdout.strip() == str(folder.path / "report" / "index.html")


def test_the_report_needs_nothing_of_the_builtin_generator(tmp_path):
    # Importing the command must not load what the page is made with.
    import subprocess
    import sys

    code = (
        "import sys, augcond, augcond.cli, augcond.report\n"
        "print([name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_one_recipe_without_failures_reads_well(tmp_path):
    config = photo_config(
        tmp_path, conditioning={"recipe": ["image"]}, generator={"name": "fake", "model": "fake"}, plan={"per_class": 2}
    )
    from augcond.pipeline import generate

    generate(config)
    text = text_of(write_report(RunFolder(config.run), ReportSettings(samples=10)))
    assert "Every planned row is accounted for" in text and "No row failed." in text
