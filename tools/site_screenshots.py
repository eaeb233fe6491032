"""Take the docs' pictures of themselves: python -m tools.site_screenshots [PAGE ...] (after make docs).

Writes docs/img/site-desktop.png and site-phone.png of the start page; of other pages, such as hub, build/PAGE-....png,
to look at. Needs Chromium, and Playwright from the dev requirements.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.report_screenshots import WIDTHS, find_chromium, open_browser, take_screenshot

SITE = Path("build/site")
_HEIGHTS = {"desktop": 1500, "phone": 1800}


def main(pages: list[str]) -> None:
    """Write a picture of each page, or of the start page, for each width."""
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium")
    with open_browser(executable) as browser:
        for page in pages or [""]:
            to = Path("build") / page.replace("/", "-") if page else Path("docs/img/site")
            for name, width in WIDTHS.items():
                shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
                shown.goto((SITE / f"{page or 'index'}.html").resolve().as_uri())
                take_screenshot(shown, to.with_name(f"{to.name}-{name}.png"), _HEIGHTS[name])


if __name__ == "__main__":
    main(sys.argv[1:])
