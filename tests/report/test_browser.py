"""The page in a real browser, opened from disk."""

from dataclasses import dataclass, field

import pytest

from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder
from tests.report.runs import INJECTED, make_run

pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
from tools.report_screenshots import WIDTHS, find_chromium, open_browser

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: install the package chromium")


@pytest.fixture(scope="module")
def browser():
    with open_browser(CHROMIUM) as started:
        yield started


@dataclass
class Opened:
    """A page in the browser, and all that it complained about or asked for."""

    page: object
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, path):
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"not loaded: {request.url}"))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.goto(path.resolve().as_uri())
        return self

    def scroll_through(self):
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height, 600):
            self.page.evaluate("top => window.scrollTo(0, top)", top)
            self.page.wait_for_timeout(40)
        # Not `wait_for_function`: it evaluates a text in the page, which the page forbids.
        for _ in range(500):
            if self.page.evaluate("[...document.images].every((image) => image.complete)"):
                return
            self.page.wait_for_timeout(20)
        pytest.fail("pictures that do not load")

    def groups(self):
        return self.page.locator("#groups > li")

    def images(self):
        return self.page.locator("#groups figure:not(.source)")

    def count(self):
        return self.page.locator("#gallery-count").inner_text()


@pytest.fixture
def view(browser, page):
    context = browser.new_context(viewport={"width": WIDTHS["desktop"], "height": 900})
    opened = Opened(context.new_page()).open(page)
    yield opened
    context.close()
    assert opened.complaints == []
    assert all(address.startswith(("file:", "data:")) for address in opened.addresses)


def test_every_picture_loads_and_nothing_is_asked_of_a_network(view):
    view.scroll_through()
    shown = view.page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(shown) > 40 and min(shown) > 0
    assert len(view.addresses) > 20


def test_the_class_called_like_a_script_is_inert(view):
    view.scroll_through()
    assert view.groups().first.locator("h3").inner_text().startswith(INJECTED)
    assert INJECTED in view.page.locator("#classes").inner_text()
    assert view.page.locator("script").count() == 2
    assert view.page.locator("[onerror]").count() == 0


def test_filters_narrow_the_gallery(view, facts):
    page = view.page
    groups = sum(entry.planned for entry in facts.classes) // 4
    assert view.count() == f"{4 * groups} images in {groups} groups"

    page.fill("#filter-class", "frog")
    frogs = next(entry for entry in facts.classes if entry.class_id == "tree frog")
    assert view.count() == f"{frogs.planned} images in {frogs.planned // 4} groups"
    assert all(text.startswith("tree frog ") for text in view.groups().locator("h3").all_inner_texts())

    page.select_option("#filter-recipe", label="image")
    assert view.images().count() == frogs.planned // 4
    assert set(view.images().locator("figcaption").all_inner_texts()) == {"image"}
    # A recipe of one source shows one source.
    assert view.groups().first.locator(".source").count() == 1

    page.fill("#filter-class", "")
    page.select_option("#filter-recipe", "")
    page.select_option("#filter-status", "failed")
    assert view.count().startswith(f"{len(facts.failures)} images")
    assert "failed: made to fail" in view.images().first.inner_text()

    page.fill("#filter-class", "no such class")
    assert view.count() == "Nothing in this sample fits these filters."
    assert view.groups().count() == 0


def test_pages_are_turned(view):
    page = view.page
    first = view.groups().first.inner_text()
    assert page.locator("#previous").is_disabled()
    page.click("#next")
    assert view.groups().first.inner_text() != first
    page.click("#previous")
    assert view.groups().first.inner_text() == first


def test_details_show_on_hover_focus_and_click(view):
    page, tip = view.page, view.page.locator("#tip")
    button = view.images().locator("button").nth(2)
    assert tip.is_hidden()
    button.hover()
    assert all(word in tip.inner_text() for word in ("seed: ", "prompt: a photo of a ", "λ: "))
    page.mouse.move(0, 0)
    assert tip.is_hidden()

    # By keyboard: the picture before it, then the next.
    view.images().locator("button").nth(1).focus()
    page.keyboard.press("Tab")
    assert tip.is_visible() and page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.keyboard.press("Escape")
    assert tip.is_hidden()

    page.keyboard.press("Enter")
    detail = page.locator("#detail")
    assert detail.is_visible() and detail.locator(".side img").count() == 2
    seed = detail.locator("dt:text-is('seed') + dd").inner_text()
    assert seed.isdecimal() and len(seed) > 15
    page.keyboard.press("Escape")
    assert detail.is_hidden()


def test_tables_are_sorted_by_their_headers(view):
    page = view.page
    header = page.locator("#classes th", has_text="real")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    column = "[...document.querySelectorAll('#classes tbody tr')].map((row) => Number(row.cells[3].textContent))"
    assert page.evaluate(column) == [12, 9, 5, 3, 2]
    header.locator("button").click()
    assert page.evaluate(column) == [2, 3, 5, 9, 12]


@pytest.mark.parametrize("width", [*WIDTHS.values(), 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_any_width(browser, page, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = Opened(context.new_page()).open(page)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.complaints == []
    context.close()


def test_small_images_are_enlarged_as_pixels(browser, tmp_path):
    config, _ = make_run(tmp_path, generator={"size": 32}, plan={"per_class": 1})
    context = browser.new_context()
    opened = Opened(context.new_page()).open(write_report(RunFolder(config.run), ReportSettings(metrics=False)))
    opened.scroll_through()
    style = "getComputedStyle(document.querySelector('#groups button img')).imageRendering"
    assert opened.page.evaluate(style) == "pixelated"
    context.close()
