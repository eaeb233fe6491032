"""The candidates of a tuning: which sets of images are tried, and how each is trained on.

The design is a list, not a grid: every row sets recipe, guidance and another key at once, so that each value of one key
meets several of the others, and the first rows alone are a design of fewer sets. The first is the config as it is; then
come the words alone, and the paper's own two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from augcond import registry
from augcond.conditioning import Recipe, check_conditioning, find_recipe
from augcond.config import parse_config
from augcond.config.run import names_class
from augcond.errors import ConfigError, GeneratorError
from augcond.evaluation.results import REAL_ONLY
from augcond.generators import check_recipes
from augcond.training.arms import Arm

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import RunConfig

RECIPE, GUIDANCE, STEPS = "conditioning.recipe", "generator.guidance_scale", "generator.steps"
DROPOUT, ALPHA, STRENGTH = "conditioning.dropout", "conditioning.alpha", "conditioning.strength"
SHARE, COUNTS, AMOUNT = "training.synthetic_share", "training.counts", "amount"

Settings = Mapping[str, Any]
"""Values by key of the config; `amount` is a share of the images that the plan asks for."""

AS_CONFIGURED = "as-configured"
"""The name of the candidate that sets nothing."""

_HALF = "half"
"""Half the steps of the config."""

_DESIGN: tuple[Settings, ...] = (
    {},
    {RECIPE: "text", GUIDANCE: 4.0},
    {RECIPE: "embed-cutmix-dropout", GUIDANCE: 2.0},
    {RECIPE: "embed-cutmix-dropout", GUIDANCE: 10.0},
    {RECIPE: "dropout", GUIDANCE: 7.0, DROPOUT: 0.6},
    {RECIPE: "image", GUIDANCE: 4.0},
    {RECIPE: "embed-mixup-dropout", GUIDANCE: 7.0, DROPOUT: 0.2, ALPHA: 0.5},
    {RECIPE: "embed-mixup", GUIDANCE: 4.0, ALPHA: 2.0},
    {RECIPE: "mixup-dropout", GUIDANCE: 10.0},
    {RECIPE: "embed-mixup-across", GUIDANCE: 4.0},
    {RECIPE: "dropout", GUIDANCE: 2.0, DROPOUT: 0.2},
    {RECIPE: "real-guidance", GUIDANCE: 7.0},
    {RECIPE: "cutmix", GUIDANCE: 7.0, ALPHA: 0.5},
    {RECIPE: "embed-mixup-dropout", GUIDANCE: 4.0, STEPS: _HALF},
)
"""Sets of images; what a row does not set is the config's."""

_MODELS: tuple[Settings, ...] = ({SHARE: 0.25}, {COUNTS: "effective"}, {AMOUNT: 0.5}, {SHARE: 0.75})
"""How a set is trained on beside the config's own way; the sets take turns at these."""

_COUNTING = ("balanced-softmax", "logit-adjustment")
"""Losses that `training.counts` matters for."""

_LEVELS: Mapping[str, tuple[Any, ...]] = {
    GUIDANCE: (2.0, 4.0, 7.0, 10.0),
    DROPOUT: (0.2, 0.4, 0.6),
    ALPHA: (0.5, 1.0, 2.0),
    STRENGTH: (0.3, 0.5, 0.7),
    STEPS: (),
    SHARE: (0.25, 0.5, 0.75),
    COUNTS: ("real", "effective"),
    AMOUNT: (0.5, 1.0),
}
"""What the sampler proposes from."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One setting of images and of training.

    Attributes:
        name: unique among the candidates; also the folder of its records.
        settings: what it sets, by key of the config; empty for the config as it is.
    """

    name: str
    settings: Settings

    @property
    def images(self) -> Settings:
        """The part of its settings that makes other images."""
        return {key: value for key, value in self.settings.items() if not key.startswith("training.") and key != AMOUNT}

    @property
    def set_name(self) -> str:
        """The name of its set of images."""
        return _name(self.images)

    @property
    def amount(self) -> float:
        """Share of the images of a set that it trains on."""
        return float(self.settings.get(AMOUNT, 1.0))


def candidate_of(settings: Settings) -> Candidate:
    """Return the candidate of these settings, under its name."""
    return Candidate(_name(settings), dict(settings))


def _name(settings: Settings) -> str:
    short = {RECIPE: "", GUIDANCE: "guidance=", SHARE: "share="}
    parts = [f"{short.get(key, key.rpartition('.')[2] + '=')}{_plain(value)}" for key, value in settings.items()]
    # Also the name of a folder.
    return re.sub(r"[^\w.,=+-]", "_", ",".join(parts)) or AS_CONFIGURED


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def designed(config: RunConfig) -> tuple[list[Candidate], list[str]]:
    """Return the sets of images of the design, and what is left out, each with the reason.

    Args:
        config: what they start from.
    """
    found: dict[str, Candidate] = {}
    left_out: dict[str, str] = {}
    for row in _DESIGN:
        if RECIPE in row and row[RECIPE] not in registry.recipes:
            continue  # of another version
        values = {key: _levels(config, STEPS)[0] if value == _HALF else value for key, value in row.items()}
        candidate = candidate_of({key: value for key, value in values.items() if _differs(config, key, value)})
        why = obstacle(config, candidate)
        if why is None:
            found.setdefault(candidate.name, candidate)
        else:
            # Of a recipe that is left out altogether one line is enough.
            alone = {RECIPE: recipe_of(config, candidate)}
            name = alone[RECIPE] if obstacle(config, candidate_of(alone)) == why else candidate.name
            left_out.setdefault(name, why)
    if not _is_guided(config):
        left_out[GUIDANCE] = f"the config guides nothing ({value_of(config, GUIDANCE):g}), so it stays as it is"
    return list(found.values()), [f"{name}: {why}" for name, why in left_out.items()]


def obstacle(config: RunConfig, candidate: Candidate) -> str | None:
    """Return why a candidate cannot be tried with this generator and these images; None where it can."""
    if find_recipe(_full(config, recipe_of(config, candidate))).across:
        return "its second source is of another class, where another fold may hold it out"
    if not source_count(config, candidate) and not _is_named(config):
        return "no prompt names the class, so all classes would get the same images"
    full = config_of(config, candidate.settings, config.run, None)
    try:
        check_conditioning(full.conditioning)
        check_recipes(full.generator, full.conditioning)
    except (ConfigError, GeneratorError) as error:
        return str(error)
    return None


def _is_named(config: RunConfig) -> bool:
    """Return whether any prompt says which class it is for."""
    return any(map(names_class, config.prompt))


def _is_guided(config: RunConfig) -> bool:
    """Return whether guidance is on: models that were distilled to do without refuse any other value."""
    return config.generator.guidance_scale > 1


def _differs(config: RunConfig, key: str, value: Any) -> bool:
    return value != value_of(config, key) and (key != GUIDANCE or _is_guided(config))


def _full(config: RunConfig, recipe: str) -> str:
    """Return how the config spells a recipe of one's own."""
    return next((name for name in config.conditioning.recipe if registry.short_name(name) == recipe), recipe)


def value_of(config: RunConfig, key: str) -> Any:
    """Return what a config has at a key of `Settings`; of several recipes the first."""
    if key == AMOUNT:
        return 1.0
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return registry.short_name(value[0]) if key == RECIPE else value


def recipe_of(config: RunConfig, candidate: Candidate) -> str:
    """Return the recipe of a candidate, by its short name."""
    return str(candidate.settings.get(RECIPE, value_of(config, RECIPE)))


def with_models(config: RunConfig, sets: Sequence[Candidate], most: int) -> list[Candidate]:
    """Return the candidates of some sets of images: each as the config trains, and in one other way.

    Args:
        config: what they start from.
        sets: of images.
        most: candidates at most.
    """
    ways = [way for way in _MODELS if _matters(config, way)]
    found = list(sets)
    for number, each in enumerate(sets):
        way = ways[number % len(ways)]
        found.append(candidate_of({**each.settings, **way}))
    return found[: max(most, len(sets))]


def _matters(config: RunConfig, way: Settings) -> bool:
    if COUNTS in way and config.training.loss not in _COUNTING:
        return False
    return any(value_of(config, key) != value for key, value in way.items())


class Suggests(Protocol):
    """What proposes values: an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of `choices`."""
        ...


def suggested(config: RunConfig, trial: Suggests, recipes: Sequence[str]) -> Candidate:
    """Return the candidate that a trial stands for; what does not matter for its recipe is not asked for.

    Args:
        config: what it starts from.
        trial: proposes the values, or was enqueued with them.
        recipes: to choose from.
    """
    name = trial.suggest_categorical(RECIPE, recipes)
    recipe = find_recipe(_full(config, name))
    keys = [key for key in _LEVELS if _applies(config, recipe, key)]
    chosen = {RECIPE: name} | {key: trial.suggest_categorical(key, _levels(config, key)) for key in keys}
    return candidate_of({key: value for key, value in chosen.items() if value != value_of(config, key)})


def parameters(config: RunConfig, candidate: Candidate) -> dict[str, Any]:
    """Return all that `suggested` would ask for, with the candidate's values: what its trial is enqueued with."""
    values = {RECIPE: value_of(config, RECIPE)} | dict(candidate.settings)
    recipe = find_recipe(_full(config, values[RECIPE]))
    keys = [key for key in _LEVELS if _applies(config, recipe, key)]
    return {RECIPE: values[RECIPE]} | {key: values.get(key, value_of(config, key)) for key in keys}


def _levels(config: RunConfig, key: str) -> tuple[Any, ...]:
    """Return the levels of a key, the config's own among them."""
    own = value_of(config, key)
    if key == STEPS:
        return tuple(dict.fromkeys((max(1, own // 2), own)))
    return _LEVELS[key] if own in _LEVELS[key] else (*_LEVELS[key], own)


def _applies(config: RunConfig, recipe: Recipe, key: str) -> bool:
    return {
        DROPOUT: recipe.dropout,
        ALPHA: recipe.mixes,
        STRENGTH: recipe.initial,
        COUNTS: config.training.loss in _COUNTING,
        GUIDANCE: _is_guided(config),
    }.get(key, True)


def source_count(config: RunConfig, candidate: Candidate) -> int:
    """Return how many real images each of a candidate's is made from."""
    return find_recipe(_full(config, recipe_of(config, candidate))).source_count(config.conditioning)


def config_of(
    config: RunConfig,
    settings: Settings,
    run: Path,
    amounts: Mapping[str, int] | None,
    rounds: Path | None = None,
) -> RunConfig:
    """Return the config of a run with these settings; what its recipe does not take is as if it were not there.

    Args:
        config: what they start from.
        settings: of a candidate.
        run: its folder.
        amounts: images per class, by class id; the config's own plan where None.
        rounds: file of further ones, from sources that are chosen.
    """
    overrides = {key: value for key, value in settings.items() if key != AMOUNT} | {"run": str(run)}
    overrides[RECIPE] = _full(config, str(settings.get(RECIPE, value_of(config, RECIPE))))
    overrides |= {"training.arms": None, "evaluation.primary": [], **_not_taken(config, find_recipe(overrides[RECIPE]))}
    if amounts is not None:
        overrides |= {"plan.fill_to": None, "plan.per_class": dict(amounts)}
    if rounds is not None:
        overrides["plan.rounds"] = str(rounds)
    texts = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return parse_config(config.model_dump(mode="json"), texts, origin="a candidate")


def _not_taken(config: RunConfig, recipe: Recipe) -> dict[str, Any]:
    """Return the neutral value of each key that the config sets and that does not apply to a recipe."""
    takes = {
        "conditioning.sources": recipe.source_count(config.conditioning) > 2,
        "conditioning.interpolation": recipe.embeddings == "mixup",
        "generator.away_from": recipe.source_count(config.conditioning) > 0 and not recipe.initial,
    }
    neutral = {"conditioning.sources": 2, "conditioning.interpolation": "linear", "generator.away_from": None}
    return {key: neutral[key] for key, taken in takes.items() if not taken and value_of(config, key) != neutral[key]}


def arm_of(config: RunConfig, recipe: str | None) -> Arm:
    """Return what is trained of a candidate's config; real images alone where `recipe` is None."""
    training = config.training.model_copy(update={"arms": None})
    if recipe is None:
        return Arm(REAL_ONLY, "real-only", None, None, training)
    return Arm(recipe, "synthetic", recipe, None, training)
