"""Who judges the generated images: an encoder that had no part in making them, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from augcond.datasets import DecodeSettings, decode
from augcond.datasets.loading import list_held_out
from augcond.errors import AugcondError, ConfigError, ImageError, RunError, TrainingError
from augcond.evaluation.features import Extractor, load_extractor
from augcond.generators import load_generator
from augcond.report.sample import real_positions
from augcond.training.arms import REAL_ONLY
from augcond.training.cards import load_weights, read_cards
from augcond.training.devices import find_rank
from augcond.training.networks import build_classifier, input_size
from augcond.training.pixels import write_square
from augcond.training.probes import BackboneEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from augcond.report.facts import RunFacts
    from augcond.training.cards import ModelCard

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Judge:
    """An encoder by whose features generated images are compared with real ones.

    Attributes:
        extract: gives the features.
        name: what it is called on the page.
        circular: it conditioned the generator, so that it judges its own work.
        learned: it was trained on the real training images: what it makes of these says nothing, so that it takes held-
            out ones to say how it errs.
    """

    extract: Extractor
    name: str
    circular: bool
    learned: bool = False


def choose_judge(facts: RunFacts, features: str) -> Judge:
    """Return the judge that `features` names; see `evaluation.features`.

    Raises:
        ConfigError: no encoder has this name.
        GeneratorError: its weights cannot be loaded.
    """
    if features == AUTO:
        found = _own_classifier(facts)
        if found is not None:
            return found
        features = "generator"
    extractor = load_extractor(features, lambda: load_generator(facts.config.generator))
    if features == "generator":
        return Judge(extractor, f"the image encoder of {facts.plan.columns.generator}", circular=True)
    return Judge(extractor, features, circular=False)


def _own_classifier(facts: RunFacts) -> Judge | None:
    """Return the network that the run trained on the most real images, and nothing else; None where there is none."""
    try:
        cards = read_cards(facts.folder.path)
    except RunError:
        return None
    fit = [
        card
        for card in cards
        # A ceiling has seen real images alone, too, and more of them.
        if card.kind != "synthetic"
        and not card.leaks
        and card.config.model != "generator"
        and card.classes == facts.plan.classes
    ]
    if not fit:
        return None
    fit.sort(key=lambda card: (card.arm != REAL_ONLY, card.arm, card.seeds.training))
    card = max(fit, key=lambda card: card.real_images + card.synthetic_images)
    try:
        return _judge_of(facts, card)
    except (ConfigError, TrainingError):
        return None  # such as a backbone that is not in the cache of this machine


def _judge_of(facts: RunFacts, card: ModelCard) -> Judge:
    config, learned = card.config, card.config.mode != "linear-probe"
    fresh = config.model_copy(update={"mode": "scratch", "weights": None}) if learned else config
    network = build_classifier(fresh, len(card.classes), seed=0)
    if learned:
        load_weights(facts.folder.model_path(card.arm, card.seeds.training), network)
    encode, size = BackboneEncoder(network, find_rank(config).device), input_size(config)

    def extract(images: Sequence[Image]) -> torch.Tensor:
        pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)
        for image, out in zip(images, pixels, strict=True):
            write_square(image.convert("RGB"), out)
        return encode(torch.from_numpy(pixels).float() / 255)

    what = f"{config.model}, trained on real images alone (arm {card.arm}, seed {card.seeds.training})"
    return Judge(extract, what if learned else f"{config.model}, pretrained", circular=False, learned=learned)


@dataclass(frozen=True, slots=True)
class HeldOutImages:
    """Real images that no arm is trained on, as far as they can be read.

    Attributes:
        on: `validation` or `test`.
        labels: by the run's classes.
        keys: of the images.
        of: opens one.
    """

    on: str
    labels: tuple[int, ...]
    keys: tuple[str, ...]
    facts: RunFacts

    def images(self, kept: list[int]) -> Iterator[Image]:
        """Yield the images, and append the labels of those that can be read to `kept`."""
        listing = list_held_out(self.facts.config.data, "validation" if self.on == "validation" else "test")
        settings = DecodeSettings.of(self.facts.config.data)
        for key, label in zip(self.keys, self.labels, strict=True):
            if listing is None:
                return
            try:
                image = decode(listing.reader.read(key), settings)
            except (ImageError, OSError):
                continue
            kept.append(label)
            yield image


def held_out_images(facts: RunFacts, most: int) -> HeldOutImages | None:
    """Return up to `most` validation images, or test images where there are none, stratified by class.

    They only say how the judge errs on real images it has not seen; nothing is chosen by them.
    """
    places = {class_id: label for label, class_id in enumerate(facts.plan.classes)}
    for on in ("validation", "test"):
        try:
            listing = list_held_out(facts.config.data, on)
        except AugcondError:
            continue  # they are not where the report is made
        if listing is None:
            continue
        labels = [places.get(listing.classes[label], -1) for label in listing.labels]
        known = [place for place, label in enumerate(labels) if label >= 0]
        chosen = [known[place] for place in real_positions([labels[place] for place in known], most)]
        if chosen:
            keys = tuple(listing.keys[place] for place in chosen)
            return HeldOutImages(on, tuple(labels[place] for place in chosen), keys, facts)
    return None
