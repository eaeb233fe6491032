"""One unit of work: a run folder that is generated, trained and judged, and then a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evidence.settings import ArmSpec, Protocol, Scale

from augcond.config import RunConfig, parse_config
from augcond.files import file_sha256
from augcond.store.folder import RunFolder
from augcond.training.arms import HeldOut


@dataclass(frozen=True, slots=True)
class Setting:
    """What a unit is a run of.

    Attributes:
        protocol: which one.
        arms: rows; they share recipe and tuning.
        seed: of split, plan and training together.
        shots: k of a few-shot run.
        published: with the leaks of the published scripts.
        overrides: dotted keys of the config, what tuning chose among them.
        names: which of the files in `names/` gives the class names; None: the world's own.
        rounds: in how many further rounds its images are made; 0: all at once.
    """

    protocol: Protocol
    arms: tuple[ArmSpec, ...]
    seed: int
    shots: int | None = None
    published: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    names: str | None = None
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work.

    Attributes:
        name: of its record, such as `long-tail/text/seed-0`.
        config: of its run.
        judged: on which real images; tuning never looks at the test images.
        fingerprint: of all its settings and of the generator's weights.
    """

    name: str
    config: RunConfig
    judged: tuple[HeldOut, ...]
    fingerprint: str

    @property
    def synthetic(self) -> bool:
        """Whether it needs generated images."""
        return any(arm.recipe not in (None, "unused-real") for arm in self.config.training.arms or ())


def folder_name(fingerprint: str) -> str:
    """Return the name of a unit's run folder."""
    return fingerprint[:8]


def images_keys(values: Mapping[str, Any]) -> list[str]:
    """Return keys, one of which two configs have in common where an image of one may be an image of the other.

    What names the classes is not in them: classes that two kinds of prompts name alike have the same images.
    """
    conditioning = {key: value for key, value in values["conditioning"].items() if key != "recipe"}
    shared = {"generator": values["generator"], "seed": values["plan"]["seed"], "conditioning": conditioning}
    recipes = values["conditioning"]["recipe"]
    found = []
    # Records of older versions may name one by itself.
    for recipe in [recipes] if isinstance(recipes, str) else recipes:
        # The images of `text` have no sources: they are the same for every split.
        split = None if recipe == "text" else {"split": values["data"]["split"], "leaks": values["leaks"]}
        found.append(json.dumps({**shared, "recipe": recipe, "split": split}, sort_keys=True))
    return found


def make_unit(
    name: str, setting: Setting, scale: Scale, *, work: Path, revision: str, judged: Sequence[HeldOut]
) -> Unit:
    """Return the unit of a setting.

    Args:
        name: of its record.
        setting: what it is a run of.
        scale: how large.
        work: the folder that run folders lie in.
        revision: of the generator's weights.
        judged: see `Unit`.

    Raises:
        ConfigError: the setting cannot be.
    """
    values = _values(setting, scale)
    about: dict[str, Any] = {"values": values, "overrides": dict(setting.overrides), "revision": revision}
    if setting.names is not None:
        about["names"] = file_sha256(names_file(setting.names))
    if setting.rounds:
        about["rounds"] = setting.rounds
    fingerprint = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    # A changed setting gets a folder of its own: augcond refuses to mix two runs in one.
    values["run"] = str(work / name / folder_name(fingerprint))
    # Where files lie says nothing about what is measured.
    if setting.names is not None:
        values["data"] |= {"class_names": str(names_file(setting.names)), "several_names": True}
    if setting.rounds:
        values["plan"]["rounds"] = str(RunFolder(Path(values["run"])).rounds_path)
    texts = tuple(f"{key}={json.dumps(value)}" for key, value in setting.overrides.items())
    return Unit(name, parse_config(values, texts, origin=name), tuple(judged), fingerprint)


def names_file(names: str) -> Path:
    """Return the class-name file of that name."""
    return Path(__file__).parent / "names" / f"{names}.tsv"


def _values(setting: Setting, scale: Scale) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(scale.base))
    few = setting.protocol == "few-shot"
    values["protocol"] = "published" if setting.published else setting.protocol
    # The seed draws which class is rare too: shot groups then differ by their counts, not by which classes they hold.
    split: dict[str, Any] = {"name": "long-tail", "imbalance": scale.imbalance, "head": scale.head, "order": "shuffled"}
    if few:
        split = {"name": "few-shot", "k": setting.shots}
    values["data"]["split"] = {**split, "seed": setting.seed}
    amount = {"per_class": scale.few_per_class} if few else {"fill_to": scale.head}
    if "plan.per_class" in setting.overrides:
        amount = {}
    values["plan"] = {**amount, "seed": setting.seed}
    named = [(arm.recipe,) if isinstance(arm.recipe, str) else arm.recipe or () for arm in setting.arms]
    recipes = sorted({recipe for several in named for recipe in several} - {"unused-real"})
    if recipes:
        values["conditioning"] = {"recipe": recipes}
    training = values.setdefault("training", {})
    training |= {"steps": scale.steps[setting.protocol], "seeds": [setting.seed]}
    training["arms"] = [
        {"name": arm.name, "recipe": arm.recipe, "per_class": arm.per_class, "overrides": dict(arm.training)}
        for arm in setting.arms
    ]
    return values
