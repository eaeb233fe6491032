"""Contact sheets: many small pictures as one."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

GAP = 2


def save_sheet(pictures: Tensor, path: Path, columns: int, zoom: int = 2) -> None:
    """Save (N, 3, H, W) uint8 pictures as one PNG, `columns` a row, each enlarged `zoom` times."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.full((3, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), 255, dtype=torch.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = picture
    image = Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)
