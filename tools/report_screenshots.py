"""Take the docs' pictures of a report: python -m tools.report_screenshots FOLDER.

Makes the run that they show in FOLDER (the built-in world, some five minutes on two CPU cores; what is there already is
not made again) and writes docs/img/report-desktop.png, report-errors.png, report-phone.png and report-print.png. Needs
Chromium, and Playwright from the dev requirements; for the printed page pdftoppm (poppler-utils).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from augcond.config import RunConfig, parse_config
from augcond.pipeline import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = {"desktop": 1280, "phone": 390}
_HEIGHTS = {"desktop": 2250, "phone": 2200}
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


def example(folder: Path) -> RunConfig:
    """Return the config of the run that the docs show: a long tail, two recipes, a ceiling, three seeds."""
    arms = [{"name": "real-only"}, {"name": "text", "recipe": "text"}]
    arms += [{"name": "embed-mixup-dropout", "recipe": "embed-mixup-dropout"}]
    arms += [{"name": "ceiling", "recipe": "unused-real"}]
    return parse_config(
        {
            "protocol": "long-tail",
            "data": {"source": "builtin", "split": {"name": "long-tail", "imbalance": 25, "head": 50}},
            "plan": {"fill_to": 50},
            "conditioning": {"recipe": ["text", "embed-mixup-dropout"]},
            "generator": {"guidance_scale": 4.0, "steps": 6},
            "training": {"steps": 150, "seeds": 3, "arms": arms},
            "run": folder / "garments",
        }
    )


def print_first_page(page: Page, to: Path) -> None:
    """Write the first printed page as a PNG of few colours."""
    tool = shutil.which("pdftoppm")
    if tool is None:
        sys.exit("no pdftoppm found: install the package poppler-utils")
    printed = to.with_suffix(".pdf")
    page.pdf(path=printed, format="A4", prefer_css_page_size=True)
    command = [tool, "-png", "-r", "80", "-f", "1", "-l", "1", "-singlefile", str(printed), str(to.with_suffix(""))]
    subprocess.run(command, check=True)  # noqa: S603
    printed.unlink()
    with Image.open(to) as image:
        shown = image.convert("RGB")
    shown.quantize(256, dither=Image.Dither.NONE).save(to, optimize=True)


def main(folder: Path, to: Path) -> None:
    """Make the run and write its pictures."""
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium")
    config = example(folder)
    run(config)
    to.mkdir(parents=True, exist_ok=True)
    address = (config.run / "report" / "index.html").resolve().as_uri()
    with open_browser(executable) as browser:
        for name, width in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
            page.goto(address)
            take_screenshot(page, to / f"report-{name}.png", _HEIGHTS[name])
        page = browser.new_page(viewport={"width": WIDTHS["desktop"], "height": 900}, color_scheme="light")
        page.goto(address)
        page.locator("#matrix-body button").filter(has_text="7").first.click()
        page.wait_for_timeout(500)
        page.locator("#matrix").screenshot(path=to / "report-errors.png")
        with Image.open(to / "report-errors.png") as image:
            shown = image.convert("RGB")
        shown.quantize(256, dither=Image.Dither.NONE).save(to / "report-errors.png", optimize=True)
        print_first_page(page, to / "report-print.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path("docs/img"))
