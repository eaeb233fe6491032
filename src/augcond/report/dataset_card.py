"""What a dataset on the hub says of itself: its card, and a picture of some of its images."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageOps

from augcond.report.facts import RunFacts, planned_by_recipe, portable_config
from augcond.report.sample import SampledRow, attempted_positions, read_rows
from augcond.store.images import decode_stored
from augcond.store.marks import SOURCE_TYPE
from augcond.store.pushing import DATA, LeftOut
from augcond.store.shards import COLUMNS

TAG = "augcond"
"""Among the tags of every dataset that was pushed."""

COLUMN_WORDS: Final[Mapping[str, str]] = {
    "image": "",
    "label": "",
    "class_name": "the words that its prompt uses",
    "key": "class/index/recipe: the same class and index has the same sources and initial noise under every recipe",
    "recipe": "",
    "source_keys": "names of the real images that it is conditioned on",
    "lam": "lambda as drawn",
    "share": "of the first source, in effect",
    "weights": "of each source",
    "seed": "",
    "prompt": "",
    "guidance_scale": "",
    "steps": "",
    "generator": "",
    "revision": "of its weights",
    "status": "ok in every row",
    "error": "null in every row",
    "other_label": "of images that mix two classes, the second one: label has a share of label_share, it the rest",
    "label_share": "see other_label; null elsewhere",
    "away_from": "the class whose images guidance led away from",
}
"""What the columns of a data file hold, where their names do not say it; those that not every run has come last."""

_SHOWN = 100
"""Classes in the table."""
_LINES, _EDGE, _GAP = 8, 128, 4
"""Of the picture: most classes, and pixels."""
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a card says beside the facts of its run.

    Attributes:
        repo_id: `user/name`.
        left_out: rows that are no part of the dataset.
        missing: keys of images that are no part of it: a person rejected them, or screening dropped them.
        generator_licence: of the generator's weights.
        licence: of the dataset, as the hub calls it, such as `cc-by-4.0`; None where it is not said.
    """

    repo_id: str
    left_out: LeftOut
    missing: Collection[str]
    generator_licence: str
    licence: str | None


def render_card(card: DatasetCard, facts: RunFacts) -> str:
    """Return README.md of the dataset: Markdown, in which every text of the run is escaped."""
    labels = facts.plan.plan.table["label"].to_numpy()[_kept(card.missing, facts)]
    counts = [int(count) for count in np.bincount(labels, minlength=len(facts.classes))]
    config = portable_config(facts)
    return (
        _environment()
        .get_template("dataset_card.md")
        .render(
            metadata=yaml.safe_dump(_metadata(card, facts, sum(counts)), sort_keys=False, allow_unicode=True),
            title=card.repo_id.rpartition("/")[2],
            repo_id=card.repo_id,
            source_type=SOURCE_TYPE,
            facts=facts,
            images=sum(counts),
            counts=counts,
            shown=facts.classes[:_SHOWN],
            planned=planned_by_recipe(facts),
            left_out=card.left_out,
            columns={name: COLUMN_WORDS[name] for name in (*COLUMNS, *facts.plan.further_columns)},
            leaks=facts.config.leaks,
            licence=card.generator_licence or "not stated",
            version=" and ".join(facts.versions()["augcond"]),
            config=config,
            # Longer than any run of backticks in it.
            fence="`" * max(3, 1 + max(map(len, re.findall("`+", config)), default=0)),
        )
    )


def _kept(rejected: Collection[str], facts: RunFacts) -> np.ndarray:
    """Return (rows of the plan,) bool: whether a row's image is part of the dataset."""
    left_out = pc.is_in(facts.plan.plan.table["key"], value_set=pa.array(rejected, pa.string()))
    return np.asarray(facts.made & ~left_out.to_numpy())


def _metadata(card: DatasetCard, facts: RunFacts, images: int) -> dict[str, object]:
    licence = {} if card.licence is None else {"license": card.licence}
    return {
        **licence,
        "pretty_name": card.repo_id.rpartition("/")[2],
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [next((name for bound, name in _SIZES if images < bound), "10M<n<100M")],
        "tags": [TAG, "synthetic", *facts.recipes],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"{DATA}/train-*.parquet"}]}],
    }


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - Markdown: each text of a run goes through `inline`, its config into a fence
        loader=PackageLoader("augcond.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=lambda value: f"{value:,}", inline=_inline)
    return environment


def _inline(text: str) -> str:
    """Return `text` as Markdown that shows just that, on one line and in a cell of a table."""
    plain = html.escape(" ".join(text.split()))
    return re.sub(r"[\\`*_\[\]|~]", lambda found: f"&#{ord(found[0])};", plain)


def draw_samples(rejected: Collection[str], facts: RunFacts) -> Image.Image:
    """Return a sheet of generated images, a line per class and a column per recipe; no real image is on it."""
    positions = attempted_positions(facts)
    positions = positions[_kept(rejected, facts)[positions]]
    table = facts.plan.plan.table
    labels, recipes = table["label"].to_numpy()[positions], table["recipe"].combine_chunks().indices.to_numpy()
    # The first of each class and recipe, sorted by class.
    _, first = np.unique(np.stack([labels, recipes[positions]]), axis=1, return_index=True)
    lines = list(dict.fromkeys(labels[first].tolist()))[:_LINES]
    shown = positions[first][np.isin(labels[first], lines)]
    step = _EDGE + _GAP
    sheet = Image.new("RGB", (step * len(facts.recipes) - _GAP, step * len(lines) - _GAP), "white")
    for row in read_rows(facts, shown.tolist()):
        sheet.paste(_thumbnail(row), (step * facts.recipes.index(row.recipe), step * lines.index(row.label)))
    return sheet


def _thumbnail(row: SampledRow) -> Image.Image:
    if row.image is None:
        raise ValueError(f"{row.key} has no image")
    picture = decode_stored(row.image).convert("RGB")
    way = Image.Resampling.NEAREST if max(picture.size) < _EDGE else Image.Resampling.LANCZOS
    return ImageOps.pad(picture, (_EDGE, _EDGE), way, color="white")
