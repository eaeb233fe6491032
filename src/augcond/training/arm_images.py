"""The images of a run as its arms need them, each read once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augcond.datasets.splits import subset
from augcond.errors import RunError
from augcond.generators import load_generator
from augcond.store.fingerprint import row_fingerprints
from augcond.training.arms import Arm, unused_real
from augcond.training.devices import find_rank
from augcond.training.image_sets import ImageSet, real_images, synthetic_images
from augcond.training.networks import build_classifier, input_size
from augcond.training.orders import class_weights
from augcond.training.probes import BackboneEncoder, FrozenEncoder, GeneratorEncoder
from augcond.training.synthetic import SyntheticRows

if TYPE_CHECKING:
    from augcond.config import TrainingConfig
    from augcond.datasets import Dataset
    from augcond.generators import Generator
    from augcond.progress import Progress
    from augcond.training.experiment import Experiment


class RunImages:
    """Real and synthetic images of a run, and the frozen encoders of its linear probes.

    Args:
        experiment: the run.
        dropped: keys of the synthetic images that screening dropped.
        progress: is told how many images are decoded into memory, and how many features are computed.
    """

    def __init__(self, experiment: Experiment, dropped: Collection[str] = (), progress: Progress | None = None) -> None:
        self.experiment = experiment
        self._progress = progress
        self._dropped = frozenset(dropped)
        self._real: dict[tuple[int, bool], ImageSet] = {}
        self._added: tuple[object, dict[tuple[int, bool], ImageSet]] | None = None
        self._added_sha256: dict[object, str] = {}
        self._judged: tuple[Dataset, int, ImageSet] | None = None
        self._encoders: dict[object, FrozenEncoder] = {}
        self._generator: Generator | None = None

    def real(self, size: int, *, photos: bool = False) -> ImageSet:
        """Return the training images of the split, at `size` pixels, and where it is asked for, as photographs too."""
        if (size, photos) not in self._real:
            self._real[size, photos] = self.load(self.experiment.training, size, photos=photos)
        return self._real[size, photos]

    def load(self, dataset: Dataset, size: int, *, photos: bool = False) -> ImageSet:
        """Return the images of `dataset` at `size` pixels; see `real_images`."""
        return real_images(dataset, size, self.experiment.max_bytes, self._progress, photos=photos)

    def judged(self, dataset: Dataset, arm: Arm, size: int, seed: int) -> ImageSet:
        """Return the images that a model of `arm` is judged on, by the protocol of the run.

        Args:
            dataset: from `evaluation_images`.
            arm: whose model it is.
            size: edge length in pixels.
            seed: its training seed.
        """
        if self._judged is None or self._judged[0] is not dataset or self._judged[1] != size:
            self._judged = (dataset, size, self.load(dataset, size))
        images = self._judged[2]
        if arm.kind != "synthetic":
            return images
        return self.experiment.protocol.judged(images, lambda: self.added(arm, size), seed)

    def added(self, arm: Arm, size: int, *, photos: bool = False) -> ImageSet:
        """Return what `arm` is trained on beside the real images of the split.

        It is often a lot, so only that of the last arm is kept, at the sizes asked for.

        Raises:
            RunError: the arm needs synthetic images, and the run was not generated.
        """
        key = (arm.recipe, arm.per_class)
        if self._added is None or self._added[0] != key:
            self._added = (key, {})
        forms = self._added[1]
        if (size, photos) not in forms:
            forms[size, photos] = self._load_added(arm, size, photos)
        return forms[size, photos]

    def _load_added(self, arm: Arm, size: int, photos: bool) -> ImageSet:
        run = self.experiment
        if arm.kind == "real-only":
            return self.real(size, photos=photos).take([])
        if arm.kind == "ceiling":
            return self.load(subset(run.pool, self.added_keys(arm)), size, photos=photos)
        positions = self._positions(arm, self._dropped)
        if not len(positions):
            return self.real(size, photos=photos).take([])
        return synthetic_images(self._rows(arm), positions, size, run.max_bytes, self._progress, photos=photos)

    def added_keys(self, arm: Arm) -> tuple[str, ...]:
        """Return the keys of what `arm` is trained on beside the real images of the split."""
        if arm.kind == "real-only":
            return ()
        if arm.kind == "ceiling":
            run = self.experiment
            return tuple(unused_real(run.config, run.pool, run.split, run.training, arm.per_class))
        keys = self._rows(arm).keys
        return tuple(keys[position] for position in self._positions(arm, self._dropped))

    def added_sha256(self, arm: Arm) -> str:
        """Return the hex digest of what defines these images, in their order; other images of the run do not count."""
        key = (arm.recipe, arm.per_class)
        if key not in self._added_sha256:
            self._added_sha256[key] = self._hash_added(arm)
        return self._added_sha256[key]

    def _hash_added(self, arm: Arm) -> str:
        run, keys = self.experiment, self.added_keys(arm)
        if arm.kind != "synthetic":
            return subset(run.pool, keys).contents_sha256()
        plan = run.folder.read_plan()
        chosen = pc.is_in(plan.plan.table["key"], value_set=pa.array(keys, pa.string()))
        sources = run.folder.read_source_facts(plan.versions)
        digest = hashlib.sha256()
        for row in row_fingerprints(plan.plan.table.filter(chosen), plan.settings, sources):
            digest.update(row.encode())
        return digest.hexdigest()

    def added_counts(self, arm: Arm, *, drawn: bool = False) -> list[float]:
        """Return their number per class; one of two classes counts for each in part.

        Args:
            arm: see above.
            drawn: count each as often as it is drawn, beside one of a class with one real image.
        """
        classes = len(self.experiment.pool.classes)
        weights = class_weights(self.experiment.training.counts(), arm.config.synthetic_tilt if drawn else 0.0)
        if arm.kind == "synthetic":
            shown = self._rows(arm).shown(self._positions(arm, self._dropped), weights)
            return [float(count) for count in shown]
        chosen = subset(self.experiment.pool, self.added_keys(arm))
        labels = np.array([image.label for image in chosen.images], dtype=np.int64)
        return [float(count) for count in weights * np.bincount(labels, minlength=classes)]

    def screened_out(self, arm: Arm) -> int:
        """Return how many synthetic images of `arm` screening dropped."""
        if arm.kind != "synthetic" or not self._dropped:
            return 0
        return len(self._positions(arm, ())) - len(self._positions(arm, self._dropped))

    def _rows(self, arm: Arm) -> SyntheticRows:
        rows = self.experiment.rows
        if rows is None:
            raise RunError(
                f"{self.experiment.folder.path} has no synthetic images for the arm {arm.name!r}: "
                "run augcond generate first"
            )
        return rows

    def _positions(self, arm: Arm, dropped: Collection[str]) -> np.ndarray:
        return self._rows(arm).select(arm.recipe or (), arm.per_class, dropped)

    @property
    def generator(self) -> Generator:
        """The run's generator, loaded at first use."""
        if self._generator is None:
            self._generator = load_generator(self.experiment.config.generator)
        return self._generator

    def encoder(self, config: TrainingConfig) -> FrozenEncoder:
        """Return the frozen encoder of a linear probe."""
        key = (config.model, config.weights, config.revision, config.image_size)
        if key not in self._encoders:
            self._encoders[key] = self._load_encoder(config)
        return self._encoders[key]

    def _load_encoder(self, config: TrainingConfig) -> FrozenEncoder:
        if config.model == "generator":
            size = config.image_size or self.generator.encoder_size
            return FrozenEncoder(GeneratorEncoder(self.generator), size, self._progress)
        network = build_classifier(config, len(self.experiment.pool.classes), seed=0)
        return FrozenEncoder(BackboneEncoder(network, find_rank(config).device), input_size(config), self._progress)
