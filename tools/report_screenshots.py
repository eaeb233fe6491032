"""Take the docs' pictures of a report: python -m tools.report_screenshots RUN (after augcond report RUN).

Writes docs/img/report-desktop.png and report-phone.png. Needs Chromium, and Playwright from the dev requirements.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = {"desktop": 1280, "phone": 390}
_HEIGHTS = {"desktop": 2600, "phone": 2200}
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """Start a headless browser with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def take_screenshot(page: Page, to: Path, height: int) -> None:
    """Write the top `height` pixels of the page as a PNG of few colours, once its pictures are there."""
    # Pictures load when they come into view.
    for top in range(0, height, 400):
        page.evaluate("top => window.scrollTo(0, top)", top)
        page.wait_for_timeout(80)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(300)
    page.screenshot(path=to, full_page=True)
    with Image.open(to) as image:
        shown = image.convert("RGB").crop((0, 0, image.width, min(height, image.height)))
    shown.quantize(256, dither=Image.Dither.NONE).save(to, optimize=True)


def main(run: Path, to: Path) -> None:
    """Write a picture of the run's report for each width."""
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium")
    to.mkdir(parents=True, exist_ok=True)
    with open_browser(executable) as browser:
        for name, width in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
            page.goto((run / "report" / "index.html").resolve().as_uri())
            take_screenshot(page, to / f"report-{name}.png", _HEIGHTS[name])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path("docs/img"))
