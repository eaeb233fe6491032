"""The page in a real browser, opened from disk."""

from dataclasses import dataclass, field

import pytest

from augcond.evaluation.results import read_results
from tests.report.runs import INJECTED

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
    assert view.page.locator("script").count() == 3
    assert view.page.locator("[onerror]").count() == 0


def test_filters_narrow_the_gallery(view, facts):
    page = view.page
    groups = sum(entry.planned for entry in facts.classes) // 4
    every = f"of {4 * groups} rows shown here"
    tried = f"the run has {4 * groups} rows that were tried"
    assert view.count() == f"{4 * groups} {every}, in {groups} of {groups} groups; {tried}"

    page.fill("#filter-class", "frog")
    frogs = next(entry for entry in facts.classes if entry.class_id == "tree frog")
    assert view.count() == f"{frogs.planned} {every}, in {frogs.planned // 4} of {groups} groups; {tried}"
    assert all(text.startswith("tree frog ") for text in view.groups().locator("h3").all_inner_texts())

    page.select_option("#filter-recipe", label="image")
    assert view.images().count() == frogs.planned // 4
    assert set(view.images().locator("figcaption").all_inner_texts()) == {"image"}
    # A recipe of one source shows one source.
    assert view.groups().first.locator(".source").count() == 1

    page.fill("#filter-class", "")
    page.select_option("#filter-recipe", "")
    page.select_option("#filter-status", "failed")
    assert view.count().startswith(f"{len(facts.failures)} {every}")
    assert "failed: made to fail" in view.images().first.inner_text()

    page.fill("#filter-class", "no such class")
    assert view.count().startswith(f"Nothing of the {4 * groups} rows shown here, of {4 * groups} that were tried")
    assert view.groups().count() == 0


def test_keys_to_reject_are_copied_from_the_gallery(view, facts):
    page = view.page
    assert page.locator("#rejects").is_hidden()
    made = view.images().filter(has=page.locator("img"))
    for number in (0, 1):
        made.nth(number).locator("button").click()
        page.click("text=Put on the list to reject")
        page.keyboard.press("Escape")
    keys = page.input_value("#rejects-keys").splitlines()
    planned = set(facts.plan.plan.table["key"].to_pylist())
    assert len(set(keys)) == 2 and planned.issuperset(keys)
    made.nth(0).locator("button").click()
    page.click("text=Take off the list to reject")
    assert page.input_value("#rejects-keys").splitlines() == keys[1:]


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
    header = page.locator("#classes th").nth(3)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    column = "[...document.querySelectorAll('#classes tbody tr')].map((row) => Number(row.cells[3].textContent))"
    assert page.evaluate(column) == [12, 9, 5, 3, 2]
    header.locator("button").click()
    assert page.evaluate(column) == [2, 3, 5, 9, 12]


def test_filters_stand_in_the_address(view, page, browser):
    view.page.fill("#filter-class", "frog")
    view.page.select_option("#filter-recipe", label="mixup")
    assert view.page.evaluate("location.hash") == "#gallery?class=frog&recipe=mixup"
    shared = browser.new_page()
    shared.goto(f"{page.resolve().as_uri()}#gallery?class=frog&recipe=mixup&status=ok")
    values = [shared.locator(f"#filter-{name}").input_value() for name in ("class", "status")]
    assert values == ["frog", "ok"] and shared.locator("#filter-recipe option:checked").inner_text() == "mixup"
    captions = shared.locator("#groups figure:not(.source) figcaption").all_inner_texts()
    assert captions and all(text.startswith("mixup\n") for text in captions)
    shared.close()


# Backgrounds are `color(srgb r g b / a)` over the page's own; contrast as in WCAG 2.
CONTRASTS = """[...document.querySelectorAll("#matrix-body td")].map((cell) => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const bytes = (element, property) => numbers(getComputedStyle(element)[property]).slice(0, 3).map((v) => v / 255);
  const paper = bytes(document.body, "backgroundColor"), ink = bytes(cell.firstChild, "color");
  const [r, g, b, alpha = 1] = numbers(getComputedStyle(cell).backgroundColor.replace("srgb", ""));
  const seen = [r, g, b].map((value, place) => alpha * value + (1 - alpha) * paper[place]);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]) + 0.05;
  return Math.max(light(seen), light(ink)) / Math.min(light(seen), light(ink));
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_any_width(browser, trained_page, scheme):
    context = browser.new_context(viewport={"width": 1440, "height": 800}, color_scheme=scheme)
    opened = Opened(context.new_page()).open(trained_page)
    for width in (1440, 768, 390, 320):
        opened.page.set_viewport_size({"width": width, "height": 800})
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = opened.page.evaluate(CONTRASTS)
    assert len(contrasts) == 9 and min(contrasts) >= 4.5 and max(contrasts) > 10
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.complaints == []
    context.close()


def right_edges(page, selector):
    return page.evaluate(f"[...document.querySelectorAll('{selector}')].map((e) => e.getBoundingClientRect().right)")


def test_a_phone_shows_gain_and_accuracy_without_scrolling_and_keeps_the_arm(browser, trained_page):
    phone = browser.new_page(viewport={"width": 390, "height": 800})
    phone.goto(trained_page.resolve().as_uri())
    # The arm, its gain and its overall accuracy; then what scrolls.
    assert max(right_edges(phone, "#accuracies tr > :nth-child(-n+3)")) <= 390
    phone.evaluate("document.querySelector('#accuracies').parentElement.scrollLeft = 200")
    left = "document.querySelector('#accuracies tbody th').getBoundingClientRect().left"
    assert phone.evaluate(left) >= 0
    made = "[...document.querySelectorAll('#groups figure:not(.source) img')].map((image) => image.clientWidth)"
    assert min(phone.evaluate(made)) >= 150
    phone.close()


def test_on_paper_nothing_is_cut_and_nothing_is_closed(browser, trained_page, tmp_path):
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: pip install pypdf")
    page = browser.new_page(color_scheme="dark")
    page.goto(trained_page.resolve().as_uri())
    page.pdf(path=tmp_path / "page.pdf", format="A4", prefer_css_page_size=True)
    pictures = page.locator("main img").count()
    page.emulate_media(media="print")
    # As wide as what is printed on: nothing scrolls there.
    page.set_viewport_size({"width": 703, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    hidden = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(hidden) == 0
    page.close()
    sheets = pypdf.PdfReader(tmp_path / "page.pdf").pages
    # Of pictures nobody scrolled to, too. One that stands there twice is one object on its sheet.
    printed = sum(len(sheet["/Resources"].get("/XObject", ())) for sheet in sheets)
    assert pictures > 40 and printed > pictures / 2
    text = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    results = read_results(trained_page.parent.parent / "results.json")
    assert "gain" in text and "Values of every seed" in text
    for one in results.differences:
        if one.metric in ("overall", "few") and one.baseline == "real-only":
            assert f"{100 * one.mean:+.1f}" in text and one.interval in text
    # What is closed on the screen: values per seed, changes per class, the citation.
    assert f"{100 * results.arms[1].seeds[2].metrics.few:.1f}" in text
    assert "chen2025augmented" in text and "Change per class" in text


def test_a_cell_of_the_confusions_shows_its_test_images(browser, trained_page):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = Opened(context.new_page()).open(trained_page)
    page = opened.page
    page.select_option("#matrix-arm", label="mixup")
    cell = page.locator("#matrix-body button").first
    label = cell.get_attribute("aria-label")
    cell.click()
    true, said = label.split(":")[0].split(" taken for ")
    assert page.locator("#matrix-images h3").inner_text() == f"{true}, taken for {said}"
    captions = page.locator("#matrix-images figcaption").all_inner_texts()
    assert captions and all(f"{arm}: " in text for text in captions for arm in ("real-only", "text", "mixup"))
    page.locator("#matrix-images img").first.scroll_into_view_if_needed()
    assert page.locator("#matrix-images img").first.evaluate("(image) => image.decode().then(() => image.naturalWidth)")
    page.select_option("#matrix-kind", "change")
    assert "minus real-only" in page.locator("#matrix-legend").inner_text()
    assert opened.complaints == []
    context.close()


def test_one_file_alone_shows_its_pictures_and_two_do_not_hide_that_they_are_gone(
    browser, trained_page, page, tmp_path
):
    alone = tmp_path / "alone.html"
    for original, whole in ((trained_page, True), (page, False)):
        alone.write_bytes(original.read_bytes())
        opened = browser.new_page()
        opened.goto(alone.resolve().as_uri())
        opened.locator("#groups img").first.scroll_into_view_if_needed()
        opened.wait_for_timeout(200)
        assert opened.locator("#lost-pictures").is_visible() != whole
        loaded = opened.locator("#groups img").first.evaluate("(image) => image.naturalWidth > 0")
        assert loaded == whole
        opened.close()


def test_small_images_are_enlarged_as_pixels(browser, trained_page):
    context = browser.new_context()
    opened = Opened(context.new_page()).open(trained_page)
    opened.scroll_through()
    style = "getComputedStyle(document.querySelector('#groups button img')).imageRendering"
    assert opened.page.evaluate(style) == "pixelated"
    context.close()
