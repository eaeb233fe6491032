"""How surely look-alikes are told apart, and what it costs: the bounds of `augcond.datasets.look_alikes`.

    python -m benchmarks.duplicates          # prints JSON and writes benchmarks/results/duplicates.json

Pictures at hand: the built-in world (5,500 garments in one narrow style, all different) and crops of two photographs of
scikit-learn. `different` are the nearest pairs of different pictures, `copies` the errors of one picture stored in
several ways. The machine may be shared: seconds are indicative.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from benchmarks.plan_scale import peak_megabytes
from benchmarks.writing import write_result
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from augcond.datasets import Dataset, DecodeSettings, ImageRecord, decode, verify
from augcond.datasets.builtin import list_builtin
from augcond.datasets.look_alikes import (
    FINE_ERROR,
    HASH_BITS,
    VIEW_ERROR,
    compare,
    find_look_alikes,
    look_of,
    view_errors,
    view_of,
)

SEARCHED = 100_000
CLOSE = 0.3


def encoded(kind: str, quality: int, image: Image.Image) -> Image.Image:
    """Return an image as it comes back from a file."""
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def scaled(factor: float, image: Image.Image) -> Image.Image:
    """Return an image of another size."""
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": partial(encoded, "JPEG", 90),
    "JPEG 75": partial(encoded, "JPEG", 75),
    "JPEG 50": partial(encoded, "JPEG", 50),
    "JPEG 30": partial(encoded, "JPEG", 30),
    "WebP 50": partial(encoded, "WEBP", 50),
    "half": partial(scaled, 0.5),
    "double": partial(scaled, 2.0),
    "half, JPEG 75": lambda image: encoded("JPEG", 75, scaled(0.5, image)),
    "0.7, JPEG 50": lambda image: encoded("JPEG", 50, scaled(0.7, image)),
}


def photos() -> list[Image.Image]:
    """Return 200 crops of two photographs, of 64 to 400 pixels."""
    rng = np.random.default_rng(0)
    whole = [Image.fromarray(array) for array in load_sample_images().images]
    crops = []
    for number in range(200):
        source = whole[number % 2]
        edge = int(rng.integers(64, 400))
        x, y = int(rng.integers(source.width - edge)), int(rng.integers(source.height - edge))
        crops.append(source.crop((x, y, x + edge, y + edge)))
    return crops


def hashes(looks: list[bytes]) -> NDArray[np.uint64]:
    """Return the hash of each look."""
    return np.frombuffer(b"".join(look[:8] for look in looks), np.uint64)


def different(images: list[Image.Image]) -> dict[str, object]:
    """Return how near different pictures come to each other: every pair is compared."""
    looks = [look_of(image) for image in images]
    views = np.stack([view_of(look) for look in looks])
    bits = hashes(looks)
    lowest, proposed, sifted = 9.0, 0, 0
    fine = [1.0]
    for place in range(len(images) - 1):
        others = views[place + 1 :]
        errors = view_errors(np.broadcast_to(views[place], others.shape), others)
        lowest = min(lowest, float(errors.min()))
        proposed += int((np.bitwise_count(bits[place] ^ bits[place + 1 :]) <= HASH_BITS).sum())
        sifted += int((errors < VIEW_ERROR).sum())
        near = np.flatnonzero(errors < CLOSE) + place + 1
        fine += [compare(images[place], images[other])[0] for other in near]
    return {
        "pairs": len(images) * (len(images) - 1) // 2,
        f"within {HASH_BITS} bits": proposed,
        "lowest error of views": round(lowest, 3),
        "with a lower one than the bound": sifted,
        f"lowest error at the smaller size, of those whose views differ by less than {CLOSE}": round(min(fine), 3),
    }


def copies(images: list[Image.Image]) -> dict[str, dict[str, float]]:
    """Return how far copies of pictures are from them, and how many are found."""
    found = {}
    for name, copy in COPIES.items():
        rows = []
        for image in images:
            other = copy(image)
            looks = [look_of(image), look_of(other)]
            bits = int(np.bitwise_count(hashes(looks)[0] ^ hashes(looks)[1]))
            view = float(view_errors(view_of(looks[0])[None], view_of(looks[1])[None])[0])
            fine, certain = compare(image, other)
            rows.append((bits, view, fine, bits <= HASH_BITS and view < VIEW_ERROR, certain))
        table = np.array(rows, dtype=float)
        found[name] = {
            "bits, 95 %": round(float(np.quantile(table[:, 0], 0.95)), 1),
            "view error, 95 %": round(float(np.quantile(table[:, 1], 0.95)), 3),
            "error at the smaller size, 95 %": round(float(np.quantile(table[:, 2], 0.95)), 3),
            "proposed": round(float(table[:, 3].mean()), 3),
            "certain": round(float((table[:, 3] * table[:, 4]).mean()), 3),
        }
    return found


def search_seconds(count: int) -> float:
    """Return how long it takes to compare so many different images with each other."""
    looks = np.random.default_rng(0).integers(0, 256, (count, len(look_of(Image.new("RGB", (8, 8))))), np.uint8)
    images = tuple(ImageRecord(str(n), 0, 9, 9, str(n), (), look.tobytes()) for n, look in enumerate(looks))
    started = time.perf_counter()
    if find_look_alikes(Dataset(("a",), ("a",), images, (), list_builtin().reader)):
        raise AssertionError("random looks are not alike")
    return time.perf_counter() - started


def main() -> None:
    """Measure and report."""
    settings = DecodeSettings()
    listings = {name: list_builtin(name) for name in ("pool", "validation", "test")}
    world = [decode(each.reader.read(key), settings) for each in listings.values() for key in each.keys]
    started = time.process_time()
    looks = [look_of(image) for image in world[:1000]]
    per_image = (time.process_time() - started) / len(looks)
    sets = {name: verify(listing, settings) for name, listing in listings.items()}
    pool, test = (hashes([image.look for image in sets[name].images]) for name in ("pool", "test"))
    started = time.perf_counter()
    alike = find_look_alikes(sets["pool"], sets["test"])
    seconds = time.perf_counter() - started
    crops = photos()
    write_result(
        "duplicates",
        {
            "bounds": {"bits": HASH_BITS, "views": VIEW_ERROR, "at the smaller size": FINE_ERROR},
            "built-in world": {
                "different": different(world),
                "test images within 4 bits of a training image": int(
                    sum(bool((np.bitwise_count(pool ^ one) <= 4).any()) for one in test)
                ),
                "look-alikes between training and test": len(alike),
                "copies": copies(world[::46]),
            },
            "crops of photographs": {"copies": copies(crops)},
            "costs": {
                "look, milliseconds of one core an image": round(per_image * 1000, 2),
                "search of 2,000 training and 3,000 test images, seconds": round(seconds, 2),
                f"search among {SEARCHED:,} images, seconds": round(search_seconds(SEARCHED), 1),
                "peak megabytes": round(peak_megabytes()),
            },
        },
    )


if __name__ == "__main__":
    main()
