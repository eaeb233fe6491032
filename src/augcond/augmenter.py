"""Synthetic images in memory: what a run makes, for images that a program has at hand, without a run folder.

Planning, conditioning and engine are those of a run; what a run would store as PNG is decoded again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from augcond.conditioning import check_conditioning
from augcond.config import PlanConfig, RunConfig, parse_config
from augcond.datasets import Dataset, DecodeSettings, list_memory, verify
from augcond.engine.faults import most_failed
from augcond.engine.feeding import Feeding, Materials
from augcond.engine.looking import embed_sources, led_away_from, similar_other_classes
from augcond.engine.rows import BatchSize, generate_rows
from augcond.engine.work import torch_threads
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import Generator, check_recipes, load_generator
from augcond.guest import as_guest
from augcond.planning import make_plan
from augcond.store.images import ImageFormat, decode_stored
from augcond.store.shards import Provenance, ShardRow

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.nearness import SourceFeatures

logger = logging.getLogger(__name__)

_STORED: Final = ImageFormat("png", 100, None)
_DEFAULTS: Final = RunConfig.model_validate({"data": {"source": "builtin"}, "run": "in-memory"})


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """One generated image.

    Attributes:
        image: RGB.
        label: number of its class; of an image that mixes two classes, that with the larger share: `provenance` has
            the other one and the share.
        provenance: what it was made of; its `source_keys` are the places of the images that it was given, in 8 digits,
            or the paths in an `ImageFolder`.
    """

    image: Image
    label: int
    provenance: Provenance


class Augmenter:
    """Makes synthetic training images of real ones, all in memory.

        augmenter = augcond.Augmenter(generator={"steps": 20}, recipe="embed-mixup")
        made = augmenter(images, labels, classes=["cat", "dog"], per_class=8)
        made[0].image.save("first.png")

    Pixels are those of a run with the same sources, seed, batch size, `engine.shard_size` and versions, and
    `output.format: png`.

    Args:
        generator: keys of `generator:` in a config; or a generator that was loaded.
        recipe: one or several, as `conditioning.recipe`; every class gets its number of images of each.
        prompt: one template or several, as in a config.
        conditioning: further keys of `conditioning:`.
        engine: keys of `engine:`, such as `batch_size`.

    Raises:
        ConfigError: a key or value is wrong, or the generator does not take what a recipe conditions it by.
        GeneratorError: the generator cannot be loaded.
    """

    @as_guest
    def __init__(
        self,
        generator: Mapping[str, Any] | Generator | None = None,
        recipe: str | Sequence[str] = _DEFAULTS.conditioning.recipe,
        *,
        prompt: str | Sequence[str] = _DEFAULTS.prompt,
        conditioning: Mapping[str, Any] | None = None,
        engine: Mapping[str, Any] | None = None,
    ) -> None:
        loaded = generator if isinstance(generator, Generator) else None
        self._config = parse_config(
            {
                "data": {"source": "builtin"},  # never read
                "run": "in-memory",
                "generator": {} if isinstance(generator, Generator) else dict(generator or {}),
                "conditioning": {**(conditioning or {}), "recipe": recipe if isinstance(recipe, str) else list(recipe)},
                "prompt": prompt if isinstance(prompt, str) else list(prompt),
                "engine": dict(engine or {}),
            },
            origin="Augmenter",
        )
        check_conditioning(self._config.conditioning)
        if loaded is None:
            check_recipes(self._config.generator, self._config.conditioning)
        self._generator = load_generator(self._config.generator) if loaded is None else loaded
        check_recipes(self._config.generator, self._config.conditioning, self._generator.traits)
        self._from_config = loaded is None

    @as_guest
    def __call__(
        self,
        images: Any,
        labels: Sequence[int | str] | None = None,
        *,
        classes: Sequence[str] | None = None,
        per_class: int | Mapping[str, int] = 16,
        seed: int = 0,
    ) -> list[SyntheticImage]:
        """Return the synthetic images of real ones, in the order of a plan: the first of each class, then the second.

        Rows that fail are left out, with a warning that says why.

        Args:
            images: see `augcond.datasets.list_memory`; or a `Dataset` of augcond's, which is decoded already.
            labels: see there.
            classes: see there.
            per_class: how many of each class and recipe; or by class.
            seed: of all draws; another one gives other images.

        Raises:
            DatasetError: an image cannot be used, or labels do not fit.
            PlanError: a class that is to get images has none.
            GeneratorError: most images cannot be made.
        """
        dataset = images if isinstance(images, Dataset) else _verified(images, labels, classes)
        config, engine = self._config, self._config.engine
        materials = Materials(dataset.reader, dataset.decoding, config.conditioning, self._generator, _STORED)
        features, away_from = self._look_at(dataset)
        if away_from:
            labelled = {image.key: image.label for image in dataset.images}
            materials = led_away_from(away_from, materials, labelled, reducing=True)
        plan = make_plan(
            dataset,
            _plan_config(per_class, seed),
            config.conditioning,
            prompts=config.prompt,
            shard_size=engine.shard_size,
            features=features,
        )
        batch_size, made = BatchSize(engine.batch_size), list[ShardRow]()
        with (
            torch_threads(engine.threads),
            Feeding(materials, engine.feeding_threads, engine.max_memory_gb) as feeding,
        ):
            feeding.embed_in_memory(plan)
            for number in range(plan.shard_count):
                rows = plan.shard(number)
                hopeless = partial(most_failed, rows=len(rows), share=engine.max_failed_share)
                shard = generate_rows(rows, materials, batch_size, is_hopeless=hopeless, feeding=feeding)
                if hopeless(sum(row.image is None for row in shard)):
                    raise GeneratorError(f"most images cannot be made: {_reasons(shard)}")
                made += shard
        if reasons := _reasons(made):
            logger.warning("of %d images some cannot be made, and are left out: %s", len(made), reasons)
        return [
            SyntheticImage(decode_stored(row.image), row.row.label, self._origin(row, dataset.classes, away_from))
            for row in made
            if row.image is not None
        ]

    def _look_at(self, dataset: Dataset) -> tuple[SourceFeatures | None, dict[int, int]]:
        """Return what the encoder says of all images, and which class each one's guidance leads away from, if asked."""
        if self._config.conditioning.neighbours is None and self._config.generator.away_from is None:
            return None, {}
        features = embed_sources(dataset, self._generator)
        if self._config.generator.away_from is None:
            return features, {}
        found, classes = similar_other_classes(dataset, features), dataset.classes
        return features, {classes.index(class_id): classes.index(other) for class_id, (other, _) in found.items()}

    def _origin(self, made: ShardRow, classes: Sequence[str], away_from: Mapping[int, int]) -> Provenance:
        row, draws, identity = made.row, made.draws, self._generator.identity
        settings = self._config.generator if self._from_config else None
        mixed, led = bool(row.other_class), row.label in away_from and bool(row.source_keys)
        return Provenance(
            key=row.key,
            label=row.label,
            class_name=row.class_name,
            recipe=row.recipe,
            source_keys=row.source_keys,
            lam=draws.lam,
            share=draws.share,
            weights=draws.weights,
            seed=row.seed,
            prompt=row.prompt,
            guidance_scale=None if settings is None else settings.guidance_scale,
            steps=None if settings is None else settings.steps,
            generator=f"{identity.name}:{identity.model}",
            revision=identity.revision,
            other_label=classes.index(row.other_class) if mixed else None,
            label_share=draws.share if mixed else None,
            away_from=classes[away_from[row.label]] if led else None,
        )


def _verified(images: Any, labels: Sequence[int | str] | None, classes: Sequence[str] | None) -> Dataset:
    # What a program holds in memory was looked at by somebody: one that is unfit is a mistake.
    return verify(list_memory(images, labels, classes), DecodeSettings(), max_bad_share=0.0)


def _plan_config(per_class: int | Mapping[str, int], seed: int) -> PlanConfig:
    amounts = per_class if isinstance(per_class, int) else dict(per_class)
    try:
        return PlanConfig(per_class=amounts, seed=seed)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, problem['loc'][:1]))}: {problem['msg']}") from error


def _reasons(made: Sequence[ShardRow]) -> str:
    """Return why rows failed, with their numbers; empty where none did."""
    reasons = Counter(row.error for row in made if row.image is None)
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
