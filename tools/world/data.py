"""Write the world's small dataset: pool, validation and test in the narrow style, and the record of who saw what.

python -m tools.world.data
"""

from __future__ import annotations

import argparse
import io
import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from tools.world.garments import CLASS_NAMES, DEFAULT_FOLDER, Garments, first_per_class, partition, read_official
from tools.world.styles import draw_narrow, render
from torch import Tensor

ASSETS = Path(__file__).parents[2] / "src/augcond/assets/world"
PER_CLASS = {"pool": 200, "validation": 50, "test": 300}
SEEDS = {"pool": 11, "validation": 12, "test": 13}
SOURCES_FILE = "generator_sources.json"
logger = logging.getLogger(__name__)


def split_garments(folder: Path = DEFAULT_FOLDER) -> dict[str, Garments]:
    """The garments of every part: "generator", "held_out" (all 10,000), "pool", "validation", "test"."""
    generator, held_out = partition(read_official("train", folder))
    return {
        "generator": generator,
        "held_out": held_out,
        "pool": first_per_class(held_out, PER_CLASS["pool"]),
        "validation": first_per_class(held_out, PER_CLASS["validation"], skip=PER_CLASS["pool"]),
        "test": first_per_class(read_official("test", folder), PER_CLASS["test"]),
    }


def narrow_pictures(garments: Garments, seed: int) -> Tensor:
    """(N, 3, 32, 32) uint8: the garments in the narrow style."""
    return render(garments.images, draw_narrow(len(garments), torch.Generator().manual_seed(seed)))


def to_table(garments: Garments, pictures: Tensor) -> pa.Table:
    """The pictures with their labels and origins, as `datasets` reads them (Image and ClassLabel)."""
    names = [CLASS_NAMES[label] for label in garments.labels.tolist()]
    paths = [
        f"{garments.source_file}-{index:05d}-{name.replace(' ', '-')}.png"
        for index, name in zip(garments.source_index.tolist(), names, strict=True)
    ]
    images = [{"bytes": _png(picture), "path": path} for picture, path in zip(pictures, paths, strict=True)]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(garments.labels.tolist(), pa.int64()),
            "class_name": pa.array(names, pa.string()),
            "source_file": pa.array([garments.source_file] * len(names), pa.string()),
            "source_index": pa.array(garments.source_index.tolist(), pa.int64()),
        }
    )
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(CLASS_NAMES), "_type": "ClassLabel"},
        "class_name": {"dtype": "string", "_type": "Value"},
        "source_file": {"dtype": "string", "_type": "Value"},
        "source_index": {"dtype": "int64", "_type": "Value"},
    }
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def to_ranges(indices: list[int]) -> list[list[int]]:
    """Sorted numbers as [first, last] runs, both inclusive."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return runs


def _png(picture: Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main() -> None:
    """Write the three parquet files and the record of the generator's sources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--garments", type=Path, default=DEFAULT_FOLDER, help="folder of the official files")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = split_garments(arguments.garments)
    for name, seed in SEEDS.items():
        path = arguments.out / f"{name}.parquet"
        pq.write_table(to_table(parts[name], narrow_pictures(parts[name], seed)), path, compression="none")
        logger.info("%s: %d pictures, %.1f MB", path.name, len(parts[name]), path.stat().st_size / 1e6)
    record = {
        "what": "rows of the official training file that the autoencoder, the encoders and the UNet were trained on",
        "source_file": "train",
        "ranges": to_ranges(parts["generator"].source_index.tolist()),
    }
    (arguments.out / SOURCES_FILE).write_text(json.dumps(record, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
