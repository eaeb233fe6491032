"""Trainings and the cheap judge: what each candidate makes of the folds, recorded image by image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from augcond.datasets.splits import Split, subset
from augcond.evaluation.results import REAL_ONLY
from augcond.experiments.tuning.candidates import RECIPE, Candidate, arm_of, config_of, value_of
from augcond.experiments.tuning.folds import common_counts, even_clean
from augcond.files import make_folder
from augcond.generators import load_generator
from augcond.sealed import read_json, unfit, write_json
from augcond.store import RunFolder
from augcond.store.names import FILES
from augcond.training.arm_images import RunImages
from augcond.training.experiment import Experiment
from augcond.training.image_sets import ImageSet, real_images, synthetic_images
from augcond.training.networks import input_size
from augcond.training.probes import GeneratorEncoder, plain_features
from augcond.training.synthetic import SyntheticRows, read_synthetic
from augcond.training.trainer import train_one

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from augcond.config import RunConfig
    from augcond.datasets import Dataset
    from augcond.generators import Generator
    from augcond.training.arms import Arm
    from augcond.training.probes import FrozenEncoder

RIDGE = 0.1
"""Of the cheap judge's linear classifier, in units of the mean variance of a feature."""


@dataclass(slots=True)
class Bench:
    """The real images, the folds, and what was loaded of the generated ones.

    Attributes:
        config: what is tuned; it names no test images.
        folder: of the tuning.
        real: the real training images.
        folds: of each cross-validation.
        held: the fold that holds each real image out, (N,); see `draw_folds`. The same for every training.
        study: hex digest of what is tuned by what: records of another study, whose journal is gone, are none of this.
    """

    config: RunConfig
    folder: RunFolder
    real: Dataset
    folds: int
    held: np.ndarray
    study: str = ""
    _generator: Generator | None = None
    _features: dict[str, Tensor] = field(default_factory=dict)
    _loaded: dict[object, ImageSet] = field(default_factory=dict)
    _rows: dict[tuple[str, int], SyntheticRows] = field(default_factory=dict)
    _encoders: dict[object, FrozenEncoder] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the real images, (N,)."""
        return np.array([image.label for image in self.real.images], dtype=np.int64)

    @property
    def keys(self) -> list[str]:
        """Keys of the real images."""
        return [image.key for image in self.real.images]

    @property
    def generator(self) -> Generator:
        """The generator, loaded at first use."""
        if self._generator is None:
            self._generator = load_generator(self.config.generator)
        return self._generator

    def run(self, set_name: str) -> RunFolder:
        """Return the run folder of a set of images."""
        return RunFolder(self.folder.cell_path("pilot", set_name, self.config.plan.seed))

    def rows(self, set_name: str, standing: Standing) -> SyntheticRows:
        """Return the images that a set has by the end of a round, whatever it has grown to since."""
        key = (set_name, standing.number)
        if key not in self._rows:
            rows = read_synthetic(self.run(set_name))
            made = np.array(standing.sets[set_name])
            self._rows[key] = chosen_rows(rows, np.flatnonzero(rows.index < made[rows.labels]))
        return self._rows[key]

    def real_set(self, size: int, *, photos: bool) -> ImageSet:
        """Return all real images at `size` pixels."""
        key = (size, photos)
        if key not in self._loaded:
            self._loaded[key] = real_images(self.real, size, self._max_bytes, None, photos=photos)
        return self._loaded[key]

    def made_set(self, set_name: str, standing: Standing, size: int, *, photos: bool) -> ImageSet:
        """Return what `rows` names, at `size` pixels; of the last set that was asked for it stays in memory."""
        key = (set_name, standing.number, size, photos)
        if key not in self._loaded:
            rows = self.rows(set_name, standing)
            for other in [other for other in self._loaded if isinstance(other, tuple) and len(other) == len(key)]:
                if other[:2] != key[:2]:
                    del self._loaded[other]
            everything = np.arange(len(rows.keys))
            self._loaded[key] = synthetic_images(rows, everything, size, self._max_bytes, None, photos=photos)
        return self._loaded[key]

    @property
    def _max_bytes(self) -> float:
        return self.config.training.max_memory_gb * 1e9

    def real_features(self) -> Tensor:
        """Return the features of the real images by the generator's encoder, (N, D)."""
        return self._known_features(REAL_ONLY, lambda size: self.real_set(size, photos=False))

    def made_features(self, set_name: str, standing: Standing) -> Tensor:
        """Return the features of the images that `rows` names, (M, D)."""
        return self._known_features(
            f"{set_name} {standing.number}", lambda size: self.made_set(set_name, standing, size, photos=False)
        )

    def _known_features(self, name: str, load: Any) -> Tensor:
        if name not in self._features:
            size = self.generator.encoder_size
            self._features[name] = plain_features(GeneratorEncoder(self.generator), load(size))
        return self._features[name]


@dataclass(frozen=True, slots=True)
class Standing:
    """The sets of images of one round, which decide how many of them a fold uses.

    Attributes:
        number: of the round.
        used: how many images of each set a fold uses of each class, (C,).
        sets: how many images each set has of each class by the end of the round, (C,), by its name.
    """

    number: int
    used: tuple[int, ...]
    sets: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """The folder of its records."""
        return f"round-{self.number}"


REAL_ROUND = "real"
"""The folder of the records of real images alone, which no round changes."""


def record_path(bench: Bench, standing: Standing, name: str, training: int) -> Path:
    """Return where it is recorded what a training of a candidate, or of real images alone, gets right."""
    round_name = REAL_ROUND if name == REAL_ONLY else standing.name
    return bench.folder.path / FILES["folded"].pattern.format(
        round=f"{round_name}-{bench.study}", candidate=name, training=training
    )


def read_right(bench: Bench, path: Path) -> np.ndarray:
    """Return which real images a training got right, bool (N,); False for those that are never held out.

    Raises:
        CorruptRunError: the record is not what was written, or of another candidate, study, or other images.
    """
    mend = FILES["folded"].mend
    values = read_json(path, mend).content
    right = values.get("right")
    its_own = (values.get("candidate"), values.get("study", bench.study)) == (path.parent.name, bench.study)
    if not its_own or not isinstance(right, str) or len(right) != len(bench.real.images):
        raise unfit(path, "it is of another candidate, or of other images", mend)
    return np.array([letter == "1" for letter in right], dtype=bool)


def train_folds(bench: Bench, standing: Standing, candidate: Candidate | None, training: int) -> None:
    """Train a candidate, or real images alone, once on each fold, and record which held-out images it gets right.

    Raises:
        TrainingError: a training cannot be done, or diverged.
    """
    folds = bench.held
    right = np.zeros(len(folds), dtype=bool)
    for fold in range(bench.folds):
        held = np.flatnonzero(folds == fold)
        if len(held):
            right[held] = _fold(bench, standing, candidate, held, training)
    name = REAL_ONLY if candidate is None else candidate.name
    path = record_path(bench, standing, name, training)
    make_folder(path.parent, 3)  # RUN/tuning/ROUND/CANDIDATE
    letters = "".join("1" if value else "0" for value in right)
    about = {"study": bench.study, "candidate": name, "round": standing.number, "training": training}
    write_json(path, {**about, "right": letters})


def used_rows(bench: Bench, standing: Standing, candidate: Candidate, held: np.ndarray) -> np.ndarray:
    """Return the positions of the generated images that a candidate trains on where `held` real images are held out."""
    out = frozenset(bench.keys[place] for place in held)
    sets = [bench.rows(name, standing) for name in standing.sets]
    counts = common_counts([(rows.labels, rows.sources) for rows in sets], out, len(bench.real.classes))
    # Images that failed are missing of all sets alike.
    counts = np.ceil(np.minimum(counts, standing.used) * candidate.amount).astype(int)
    rows = bench.rows(candidate.set_name, standing)
    return even_clean(rows.labels, rows.sources, out, counts)


def _fold(bench: Bench, standing: Standing, candidate: Candidate | None, held: np.ndarray, training: int) -> np.ndarray:
    """Return which of the held-out images a training without them gets right."""
    keys = bench.keys
    out = {keys[place] for place in held}
    used = None if candidate is None else used_rows(bench, standing, candidate, held)
    alone = used is None or not len(used)
    config, recipe = bench.config, None
    rows = None
    if candidate is not None and used is not None:
        folder = bench.run(candidate.set_name)
        config = config_of(bench.config, candidate.settings, folder.path, None)
        recipe = None if alone else str(value_of(config, RECIPE))
        rows = chosen_rows(bench.rows(candidate.set_name, standing), used)
    split = Split("tuning", training, (), tuple(key for key in keys if key not in out))
    experiment = Experiment(
        config=config,
        folder=bench.folder if candidate is None else bench.run(candidate.set_name),
        pool=bench.real,
        split=split,
        training=subset(bench.real, split.train),
        rows=rows,
        held_out={},
    )
    images = _FoldImages(bench, experiment, candidate, standing, used)
    arm = arm_of(config, recipe)
    model, card = train_one(images, arm, training)
    judged = images.real_set(_judged_size(images, arm), held)
    with torch.inference_mode():
        logits = model.logits(model.module, judged) + torch.tensor(card.test_shift)
    return np.asarray((logits.argmax(dim=1) == judged.labels).numpy())


def _judged_size(images: _FoldImages, arm: Arm) -> int:
    return images.encoder(arm.config).size if arm.config.mode == "linear-probe" else input_size(arm.config)


def chosen_rows(rows: SyntheticRows, used: np.ndarray) -> SyntheticRows:
    """Return some of the generated images."""
    return replace(
        rows,
        keys=tuple(rows.keys[place] for place in used),
        sources=tuple(rows.sources[place] for place in used),
        **{name: getattr(rows, name)[used] for name in ("labels", "recipes", "index", "shards", "places")},
    )


class _FoldImages(RunImages):
    """The images of one fold, taken from those of all folds, which are loaded once."""

    def __init__(
        self,
        bench: Bench,
        experiment: Experiment,
        candidate: Candidate | None,
        standing: Standing,
        used: np.ndarray | None,
    ) -> None:
        super().__init__(experiment)
        self._bench, self._candidate, self._standing, self._used = bench, candidate, standing, used
        self._places = {key: place for place, key in enumerate(bench.keys)}
        self._encoders = bench._encoders

    def load(self, dataset: Dataset, size: int, *, photos: bool = False) -> ImageSet:
        places = [self._places[image.key] for image in dataset.images]
        return self._bench.real_set(size, photos=photos).take(places)

    def real_set(self, size: int, places: np.ndarray) -> ImageSet:
        """Return the real images at these places, at `size` pixels."""
        return self._bench.real_set(size, photos=False).take(places.tolist())

    def _load_added(self, arm: Arm, size: int, photos: bool) -> ImageSet:
        if arm.kind == "real-only" or self._candidate is None or self._used is None:
            return super()._load_added(arm, size, photos)
        whole = self._bench.made_set(self._candidate.set_name, self._standing, size, photos=photos)
        return whole.take(self._used.tolist())

    @property
    def generator(self) -> Generator:
        return self._bench.generator


def probe_folds(bench: Bench, standing: Standing, candidate: Candidate | None) -> np.ndarray:
    """Return which real images the cheap judge gets right, bool (N,), each without having seen it."""
    folds = bench.held
    right = np.zeros(len(folds), dtype=bool)
    real = bench.real_features()
    labels = torch.from_numpy(bench.labels)
    training = (
        bench.config.training
        if candidate is None
        else config_of(bench.config, candidate.settings, bench.folder.path, None).training
    )
    for fold in range(bench.folds):
        held = np.flatnonzero(folds == fold)
        kept = np.flatnonzero(folds != fold)
        if not len(held):
            continue
        sets = [(real[kept], labels[kept], 1.0)]
        if candidate is not None:
            used = used_rows(bench, standing, candidate, held)
            rows = bench.rows(candidate.set_name, standing)
            made = bench.made_features(candidate.set_name, standing)[used]
            share = training.synthetic_share if len(used) else 0.0
            sets = [(real[kept], labels[kept], 1 - share), (made, torch.from_numpy(rows.labels[used]), share)]
        predicted = _linear(sets, len(bench.real.classes), real[held])
        right[held] = (predicted == labels[held]).numpy()
    return right


def _linear(sets: list[tuple[Tensor, Tensor, float]], classes: int, judged: Tensor) -> Tensor:
    """Return the classes (H,) that ridge regression onto class indicators gives images with features `judged` (H, D).

    Args:
        sets: features, labels and the weight of each kind of image; within a kind all classes weigh alike.
        classes: number of classes.
        judged: features of the held-out images.
    """
    parts = []
    for _, labels, weight in sets:
        counts = torch.bincount(labels, minlength=classes).clamp_min(1)
        parts.append(weight / counts[labels].double())
    weights = torch.cat(parts)
    weights = weights / weights.sum()
    features = torch.cat([each for each, _, _ in sets]).double()
    targets = torch.nn.functional.one_hot(torch.cat([labels for _, labels, _ in sets]), classes).double()
    mean, aim = weights @ features, weights @ targets
    centred = features - mean
    moments = centred.T @ (weights[:, None] * centred)
    ridge = RIDGE * moments.diagonal().mean() + 1e-12
    slopes = torch.linalg.solve(
        moments + ridge * torch.eye(len(mean), dtype=torch.float64), centred.T @ (weights[:, None] * (targets - aim))
    )
    found: Tensor = ((judged.double() - mean) @ slopes + aim).argmax(dim=1)
    return found


def probed(bench: Bench, standing: Standing, candidate: Candidate | None) -> np.ndarray:
    """Return what the cheap judge gets right, read from its record or written to it."""
    name = REAL_ONLY if candidate is None else candidate.name
    path = bench.folder.path / FILES["probed"].pattern.format(round=f"{standing.name}-{bench.study}", candidate=name)
    if not path.exists():
        right = probe_folds(bench, standing, candidate)
        make_folder(path.parent, 3)  # RUN/tuning/ROUND/CANDIDATE
        letters = "".join("1" if value else "0" for value in right)
        write_json(path, {"study": bench.study, "candidate": name, "round": standing.number, "right": letters})
    return read_right(bench, path)
