"""Look for what axe-core finds wrong with pages: python -m tools.check_accessibility AXE PAGE ...

AXE is axe.min.js of npm's axe-core (`npm pack axe-core`), which is not a part of augcond; PAGE an index.html that
`augcond report` wrote. Looks at 390, 768 and 1440 pixels, light and dark, prints what is violated, and ends with 1
where anything is. Needs Chromium, and Playwright from the dev requirements.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.report_screenshots import find_chromium, open_browser

_WIDTHS = (390, 768, 1440)


def violations(axe: str, pages: list[Path], executable: str) -> list[str]:
    """Return a line per rule that a page violates, with the first element that does."""
    lines = []
    with open_browser(executable) as browser:
        for path in pages:
            for scheme in ("light", "dark"):
                # The page lets no script in but its own.
                context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
                page = context.new_page()
                page.goto(path.resolve().as_uri())
                page.evaluate(axe)
                for width in _WIDTHS:
                    page.set_viewport_size({"width": width, "height": 900})
                    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
                    where = f"{path}, {scheme}, {width} px"
                    lines += [f"{where}: {one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in found]
                context.close()
    return lines


def main() -> None:
    """Print what is violated."""
    if len(sys.argv) < 3:
        sys.exit("python -m tools.check_accessibility axe.min.js RUN/report/index.html ...")
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium")
    axe, *pages = map(Path, sys.argv[1:])
    found = violations(axe.read_text(encoding="utf-8"), pages, executable)
    print("\n".join(found) or f"{len(pages)} pages, no violation")  # noqa: T201
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
