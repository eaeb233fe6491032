"""Models on disk, under RUN/models/ARM/seed-N/: card and weights of a trained one, checkpoint of one under way."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from augcond.config import TrainingConfig
from augcond.config.base import with_neutral
from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, is_special, make_folder, write_atomically
from augcond.sealed import BLANK, SEAL, fits, read_json, seal, typed, unfit, write_json
from augcond.store.folder import RunFolder
from augcond.store.names import CARD, CHECKPOINT, FILES, UNFIT_CARD, WEIGHTS
from augcond.training.arms import ArmKind, Seeds

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of a model's card; goes up where an older augcond would misread it. Cards of 0.1 have none: 1."""

_MEND = FILES["card"].mend

LossHistory = list[tuple[int, float]]
"""(step, loss) now and then."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a trained classifier is.

    Attributes:
        arm: name of its arm.
        kind: what it was trained on.
        recipe: of its synthetic images, or several; None where there are none.
        seeds: which draw it is.
        fingerprint: of its settings and images.
        classes: class ids in label order.
        real_counts: real training images per class.
        real_images: real training images.
        real_sha256: which those are; see `Dataset.contents_sha256`.
        synthetic_images: synthetic ones (of a ceiling: unused real ones).
        screened_out: synthetic ones that screening dropped.
        test_shift: added to its logits at test time, (C,).
        leaks: the leaks that it was trained with; empty for an honest one.
        history: (step, loss) now and then.
        training: its settings, as in a config.
        per_class: it had only the first so many synthetic images of each class; None for all, and in models of 0.1.
        note: anything else to know, such as which step was kept.
        seconds: wall-clock time of its optimiser steps, on all its devices at once.
        weights_sha256: of the bytes of `model.safetensors`; empty for models of 0.1.
        added_counts: images per class that it was trained on beside the real ones; empty where that was not recorded.
        format: of the card; see `FORMAT`.
    """

    arm: str
    kind: ArmKind
    recipe: str | tuple[str, ...] | None
    seeds: Seeds
    fingerprint: str
    classes: tuple[str, ...]
    real_counts: tuple[int, ...]
    real_images: int
    real_sha256: str
    synthetic_images: int
    screened_out: int
    test_shift: tuple[float, ...]
    leaks: tuple[str, ...]
    history: tuple[tuple[int, float], ...]
    training: dict[str, Any]
    per_class: int | None = None
    note: str = ""
    seconds: float = field(default=0.0, compare=False)
    weights_sha256: str = field(default="", compare=False)
    added_counts: tuple[int, ...] = ()
    format: int = FORMAT

    @property
    def config(self) -> TrainingConfig:
        """Its settings.

        Raises:
            CorruptRunError: they are none of this augcond.
        """
        try:
            return TrainingConfig.model_validate(with_neutral(TrainingConfig, self.training))
        except ValueError as error:
            said = " ".join(str(error).split())
            raise CorruptRunError(f"the card of the model {self.arm!r} holds no settings ({said}); {_MEND}") from error


def save_model(folder: Path, card: ModelCard, module: nn.Module) -> ModelCard:
    """Write weights and then the card, which is returned; a folder with a card is a whole model."""
    make_folder(folder, 3)  # RUN/models/ARM/SEED
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    weights = save(tensors)
    # An older card must not vouch for them.
    (folder / CARD).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS, weights)
    card = replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    write_json(folder / CARD, asdict(card))
    for path in (folder / CHECKPOINT, folder / UNFIT_CARD, *folder.glob(f"*{TEMPORARY}")):
        # Nobody else writes here: what is half-written was left by a killed process.
        path.unlink(missing_ok=True)
    return card


def read_card(folder: Path) -> ModelCard | None:
    """Return the card of the model in `folder`, None where there is none.

    Raises:
        CorruptRunError: the card is not what augcond wrote.
        RunError: a newer augcond wrote it.
    """
    path = folder / CARD
    try:
        values = {"format": 1, **read_json(path, FILES["card"].mend).content}
        if values["format"] > FORMAT:
            raise RunError(
                f"{path} is of format {values['format']}, which a newer augcond wrote (this one reads up to {FORMAT}): "
                "update augcond"
            )
        return typed(ModelCard, values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise unfit(path, error, _MEND) from error


def read_cards(run: Path) -> list[ModelCard]:
    """Return the cards of all trained models of a run, sorted by arm and seed.

    Raises:
        RunError: there is none.
        CorruptRunError: a card is not what augcond wrote there.
    """
    cards = []
    for path in RunFolder(run).card_paths():
        card = read_card(path.parent)
        if card is None:
            continue
        # The names in it become those of other files.
        if RunFolder(run).card_path(card.arm, card.seeds.training) != path:
            raise CorruptRunError(f"{path} is the card of another model: {card.arm!r}, seed {card.seeds.training!r}")
        cards.append(card)
    if not cards:
        raise RunError(f"{run} holds no trained model: run augcond train first")
    return sorted(cards, key=lambda card: (card.arm, card.seeds.training))


def load_weights(folder: Path, module: nn.Module) -> None:
    """Put the weights of the model in `folder` into `module`.

    Raises:
        CorruptRunError: they are missing, damaged or of another network.
    """
    path = folder / WEIGHTS
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CorruptRunError(f"{path} cannot be loaded: {error}; {FILES['weights'].mend}") from error


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a training is.

    Attributes:
        step: number of steps done.
        history: the losses so far.
        scaler: state of the gradient scaler in mixed precision; empty without.
        seconds: time that its steps took, those before an interruption included.
    """

    step: int
    history: LossHistory
    scaler: dict[str, Any]
    seconds: float = field(default=0.0, compare=False)


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: Optimizer, progressed: Progressed, fingerprint: str
) -> None:
    """Write weights, optimiser state and progress to `path`, so that a crash leaves the old file or the new one."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    state = optimizer.state_dict()
    # Some optimisers, such as lamb, count their steps in the groups of parameters.
    groups = {place: _single(group) for place, group in enumerate(state["param_groups"])}
    for prefix, entries in (("optimizer", state["state"]), ("group", groups)):
        for place, values in entries.items():
            tensors |= {f"{prefix}.{place}.{name}": value for name, value in values.items() if _is_tensor(value)}
    about = {
        "fingerprint": fingerprint,
        "step": progressed.step,
        "history": progressed.history,
        "scaler": progressed.scaler,
        "seconds": progressed.seconds,
        "optimizer": _without_tensors(state["state"]),
        "groups": _without_tensors(groups),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, seal(save(whole, metadata={"augcond": json.dumps(about), SEAL: BLANK})))


def load_checkpoint(path: Path, module: nn.Module, optimizer: Optimizer, fingerprint: str) -> Progressed | None:
    """Put what `path` holds into `module` and `optimizer`; return None where there is no checkpoint of this training.

    Args:
        path: the file; need not exist.
        module: gets the weights.
        optimizer: gets its state.
        fingerprint: of the training; a checkpoint of another is passed over.
    """
    try:
        if is_special(path):
            raise ValueError("it is no file")
        # Read before it is mapped: where a disk fails under a mapping, the system ends the process.
        data = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if not fits(data, metadata.get(SEAL)):
                raise ValueError("its sha256 is another")
            about = json.loads(metadata["augcond"])
            trained = about["fingerprint"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        logger.warning("the checkpoint %s is damaged (%s): training starts anew", path, error)
        return None
    if trained != fingerprint:
        logger.info("the checkpoint %s is of another training: training starts anew", path)
        return None
    try:
        return _take_up(about, tensors, module, optimizer)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CorruptRunError(f"{path} does not fit ({error}): delete it, and training starts anew") from error


def _take_up(about: dict[str, Any], tensors: dict[str, Tensor], module: nn.Module, optimizer: Optimizer) -> Progressed:
    module.load_state_dict(_below("module.", tensors))
    state: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in about["optimizer"].items()}
    for name, tensor in _below("optimizer.", tensors).items():
        place, _, entry = name.partition(".")
        state.setdefault(int(place), {})[entry] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for place, values in about["groups"].items():
        groups[int(place)] |= values
    for name, tensor in _below("group.", tensors).items():
        place, _, entry = name.partition(".")
        groups[int(place)][entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    history = [(int(step), float(loss)) for step, loss in about["history"]]
    return Progressed(about["step"], history, about["scaler"], about["seconds"])


def _single(group: dict[str, Any]) -> dict[str, Any]:
    """Return the single values of a group of parameters: not the parameters, nor pairs such as betas."""
    return {n: value for n, value in group.items() if _is_tensor(value) or isinstance(value, int | float | str | None)}


def _without_tensors(entries: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        place: {name: value for name, value in values.items() if not _is_tensor(value)}
        for place, values in entries.items()
    }


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
