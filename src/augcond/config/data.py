"""The `data` section of a config: where the labelled real images are and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from augcond import registry
from augcond.config.base import NOTHING, Section, Setting, Share, find_named
from augcond.config.training import SplitConfig

_LISTED = Setting("real", by="contents")
"""Where images are and which are taken: the images themselves count, each by the hash of its file."""
_PATH = Setting("real", by="contents", path="path")


class HuggingFaceConfig(Section, decides="real"):
    """A dataset of the Hugging Face hub, or in one of its formats at `data.path`."""

    id: str | None = None
    """Hub id, such as uoft-cs/cifar10; null where `data.path` names a folder or file."""
    revision: str | None = None
    """Commit hash, tag or branch on the hub."""
    config: str | None = None
    """The dataset's configuration, where it has several."""
    image: str | None = None
    """Column of the images; null: the only one of type Image, or the one called image or img."""
    label: str | None = None
    """Column of the labels; null: the only one of type ClassLabel, or the one called label, labels or class."""
    train: str = "train"
    """Split that holds the images to learn from."""
    validation: str | None = None
    """Split of real images that choices are made on."""
    test: str | None = None
    """Split of real images that results are measured on."""


class WebDatasetConfig(Section, decides="real"):
    """Which members of WebDataset shards are image and label."""

    image: str | None = None
    """Extension of the images, such as jpg; null: any image format."""
    label: str | None = None
    """Extension of the labels: cls, txt, or json:KEY; null: the first of cls, json (its `label`) and txt there is."""


class DataConfig(Section, decides="real"):
    """Where the labelled real images are and how they are decoded."""

    source: Annotated[str, _LISTED] = "folder"
    """What `path` is: a folder of class folders, a list file, WebDataset shards, a benchmark's root folder, ...;
    `module:object` for a data set reader of one's own."""
    path: Annotated[Path | None, _PATH] = None
    """Where they are; relative to the config file. The built-in world and data sets of the hub need none."""
    huggingface: Annotated[HuggingFaceConfig | None, _LISTED] = None
    webdataset: Annotated[WebDatasetConfig | None, _LISTED] = None
    split: Annotated[SplitConfig | None, _LISTED] = None
    """Which of these images are trained on; all of them where null."""
    validation: Annotated[Path | None, _PATH] = None
    """Real images that choices are made on, in the same kind of source; the built-in world and some benchmarks have
    their own."""
    test: Annotated[Path | None, _PATH] = None
    """Real images that results are measured on, in the same kind of source; the built-in world and the benchmarks have
    their own."""
    class_names: Annotated[Path | None, _PATH] = None
    """A file of `class_id<TAB>name` lines: the words that prompts use, where folders are called n01440764."""
    several_names: Annotated[bool, Setting("images", by="each", neutral=False)] = False
    """Let names of that file hold several, `class_id<TAB>sneaker|trainer`: one of them is drawn per image."""
    background: str = "white"
    """What lies behind transparent pixels: any colour name or #rrggbb."""
    max_pixels: Annotated[int, Field(gt=0), _LISTED] = 100_000_000
    """Larger images are refused by their header, before they are decoded."""
    near_duplicates: Annotated[Literal["refuse", "warn", "ignore"], Setting("nothing", neutral="ignore")] = "refuse"
    """What to do about test images that are training images re-encoded, resized or mirrored."""
    max_bad_share: Annotated[Share, NOTHING] = 0.1
    """A larger share of unreadable files stops the job with an error."""

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        find_named(registry.datasets, source)
        return source

    @model_validator(mode="after")
    def _fits_source(self) -> Self:
        if self.several_names and self.class_names is None:
            raise ValueError("several_names needs class_names, a file that gives classes several")
        reader = registry.datasets.load(self.source)
        # A plain callable that lists images says nothing of itself.
        if hasattr(reader, "check"):
            reader.check(self)
        return self
