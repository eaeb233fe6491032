"""A commented config for what lies in a folder of photos, to begin with."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from augcond.config import DataConfig
from augcond.datasets import Listing, list_images
from augcond.errors import ConfigError

_MODEL = "sd2-community/stable-diffusion-2-1-unclip"
_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev")
_TEST = ("test", "testing")
_LOOKED_AT = 64
"""Images whose size is read from their header."""
_SKEWED = 5
"""From so many times as many images in the largest class as in the smallest, classes are filled up to one number."""
_HELD_OUT = 10
"""From so many images in the smallest class, some are held out for validation where no folder has any."""
_CODE = re.compile(r"n\d{8}|\d+")


@dataclass(frozen=True, slots=True)
class Starter:
    """A config to begin with.

    Attributes:
        text: YAML, with comments.
        found: what lies there, in a line.
    """

    text: str
    found: str


def starter_config(photos: Path, to: Path) -> Starter:
    """Return a commented config for the photos in a folder, or in a list file; no image is decoded.

    Args:
        photos: a folder of class folders, or one with `train` and maybe `test` and `validation`, each of class folders;
            or a list file.
        to: where the config is to lie; paths in it are relative to that.

    Raises:
        DatasetError: there are no labelled images.
        ConfigError: nothing lies there.
    """
    if not photos.exists():
        raise ConfigError(f"PHOTOS {photos}: no folder or file there")
    train, validation, test = (_part(photos, names) for names in (_TRAIN, _VALIDATION, _TEST))
    path = photos if train is None else train
    source = "list" if path.is_file() else "folder"
    listing = list_images(DataConfig(source=source, path=path))
    counts = [0] * len(listing.classes)
    for label in listing.labels:
        counts[label] += 1
    least, most = min(counts), max(counts)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    found = f"{sum(counts):,} photos in {len(counts):,} classes, {each} in each{_sizes(listing)}"

    def here(place: Path) -> str:
        # Quoted, for names that YAML would read otherwise.
        return json.dumps(Path(os.path.relpath(place, to.parent)).as_posix(), ensure_ascii=False)

    data = [f"  source: {source}", f"  path: {here(path)}  # {found}"]
    if test is not None:
        data.append(f"  test: {here(test)}  # real photos that are never trained on: results are measured on these")
    else:
        data.append(
            "  # test: ...  # name a folder of real photos that are never trained on: without one, nothing is measured"
        )
    if validation is not None:
        data.append(f"  validation: {here(validation)}  # real photos to choose on: recipes, guidance, ...")
    elif least >= _HELD_OUT:
        held = max(1, least // 5)
        data.append(f"  split: {{name: all, validation_per_class: {held}}}  # held out of each class, to choose on")
    codes = [name for name in listing.classes if _CODE.fullmatch(name)]
    if codes:
        data.append(f"  # class_names: names.tsv  # prompts need words: a line `{codes[0]}<TAB>name` for each class")
    plan = (
        f"{{fill_to: {most}}}  # real + synthetic: classes differ by {most / max(least, 1):.0f} times"
        if most >= _SKEWED * max(least, 1)
        else "{per_class: 16}  # images to make of each class; or fill_to: N, real + synthetic"
    )
    name = photos.stem if photos.is_file() else photos.resolve().name
    return Starter(
        _TEXT.format(to=to.name, data="\n".join(data), plan=plan, model=_MODEL, run=json.dumps(f"runs/{name}")), found
    )


def _part(photos: Path, names: Sequence[str]) -> Path | None:
    """Return the folder of a part of the photos, where they lie in such."""
    if photos.is_file() or not any((photos / name).is_dir() for name in _TRAIN):
        return None
    return next((photos / name for name in names if (photos / name).is_dir()), None)


def _sizes(listing: Listing) -> str:
    """Return how large some of the images are, by their headers; nothing where none can be read."""
    step = max(1, len(listing.keys) // _LOOKED_AT)
    sizes = []
    for key in listing.keys[::step]:
        try:
            with PIL.Image.open(io.BytesIO(listing.reader.read(key))) as image:
                sizes.append(min(image.size))
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            continue  # `augcond inspect` says which, and why
    return f", {sorted(sizes)[len(sizes) // 2]:,} pixels at their shorter edge" if sizes else ""


_TEXT = """\
# Written by augcond init. Look before you spend:
#
#   augcond inspect {to}
#   augcond run {to} --dry
#   augcond preview {to}
#   augcond run {to}
#
# Every key: the docs' reference, or augcond schema > augcond.schema.json and, as the first line here,
# yaml-language-server: $schema=augcond.schema.json

data:
{data}

plan: {plan}

conditioning:
  recipe: [text, dropout, embed-mixup-dropout]  # without your photos; the simplest recipe; the default one

prompt: "a photo of a {{class_name}}"  # the class names are the folders' names, `_` as a space

generator:
  model: {model}  # fetched from the hub at first use; for a GPU
  guidance_scale: 10.0  # the more, the closer to the prompt
  steps: 20

output: {{size: 512}}

engine: {{batch_size: 8}}  # halved by itself where memory does not suffice

training:  # a linear probe of a frozen ImageNet network: minutes on a GPU
  mode: linear-probe
  model: resnet50.tv2_in1k
  weights: hub  # fetched once
  loss: cross-entropy
  optimizer: adam
  lr: 0.0001
  weight_decay: 0.0
  steps: 10000
  batch_size: 32
  views: 8
  augment: {{crop: none, transforms: [{{name: RandomRotation, degrees: 15}}]}}
  seeds: 3  # from three on, differences have intervals

# evaluation: {{primary: [embed-mixup-dropout]}}  # what you ask, named before you look: the rest is exploratory then

run: {run}
"""
