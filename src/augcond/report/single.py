"""A page with everything inside: pictures, figures and tables become part of the one file."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

_TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
}


def single_file(html: str, folder: Path) -> str:
    """Return `html` with every file that it names in `folder` inside it.

    Args:
        html: the page; links to files become downloads.
        folder: where the page's pictures, figures and tables lie.
    """

    def shown(found: re.Match[str]) -> str:
        return f'{found[1]}src="{_address(folder / found[2])}"'

    def linked(found: re.Match[str]) -> str:
        path = folder / found[1]
        return f'<a download="{path.name}" href="{_address(path)}"' if path.is_file() else found[0]

    html = re.sub(r'(<img )src="(images/[\w.]+)"', shown, html)
    html = re.sub(r'<a href="((?!#)[\w./-]+)"', linked, html)
    pictures = {path.name: _address(path) for path in sorted((folder / "images").glob("*"))}
    island = f'<script type="application/json" id="pictures-data">{json.dumps(pictures)}</script>\n'
    return html.replace('<script type="application/json" id="gallery-data">', island + _ISLAND, 1)


_ISLAND = '<script type="application/json" id="gallery-data">'


def _address(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES.get(path.suffix, 'application/octet-stream')};base64,{data}"
