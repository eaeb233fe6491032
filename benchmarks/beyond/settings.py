"""What is measured: the cells, the rows that are compared with, and the ideas, each with settings declared beforehand.

Ideas take the tuned settings of the arm that they change (`benchmarks.evidence`), and nothing of them is tuned: the
tuning budget is that of their baselines. The generation budget is equal too: a row makes as many images as `dropout`,
however many of them it keeps. `half-text` trains on as many, half of each recipe; the plan makes the other halves too,
which no row of them uses: they are those of the rows `dropout` and `text`.

All rows are sampled in few steps alike. Of what decides a classifier that is all that differs from the evidence, whose
tuning is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.evidence.settings import (
    CEILING,
    LONG_TAIL_REAL,
    SMOKE,
    STAND_IN,
    UNNAMED_PROMPT,
    ArmSpec,
    Protocol,
    Scale,
    synthetic,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A protocol with a kind of prompts.

    Attributes:
        kind: of the prompts: named, unnamed, coarse, wrong-senses; `any` for rows that take none.
        shots: images per class; None: the long tail.
    """

    kind: str
    shots: int | None = None

    @property
    def protocol(self) -> Protocol:
        """Which one."""
        return "long-tail" if self.shots is None else "few-shot"

    @property
    def name(self) -> str:
        """As in the names of units."""
        return f"{'long-tail' if self.shots is None else f'k{self.shots}'}-{self.kind}"

    @property
    def names(self) -> str | None:
        """The class-name file of its prompts."""
        return self.kind if self.kind in ("coarse", "wrong-senses") else None

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What its prompts set."""
        return {"prompt": [UNNAMED_PROMPT]} if self.kind == "unnamed" else {}


@dataclass(frozen=True, slots=True)
class Idea:
    """A row beyond those that are compared with.

    Attributes:
        spec: its arm.
        about: what it changes, in words.
        of: the row that it changes.
        overrides: dotted keys of the config.
        halved: what is asked for is half: the rest of the budget is images that are not kept, or come in rounds.
        rounds: see `benchmarks.evidence.units.Setting`.
    """

    spec: ArmSpec
    about: str = ""
    of: str = "dropout"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    halved: bool = False
    rounds: int = 0

    @property
    def name(self) -> str:
        """Of its row."""
        return self.spec.name

    @property
    def of_training(self) -> bool:
        """Whether it changes how images are trained on, and not which there are."""
        return self.name in OF_TRAINING

    def with_training_of(self, other: Idea) -> Idea:
        """Return both in one: these images, trained on like those of `other`."""
        spec = replace(
            self.spec, name=f"{self.name}+{other.name}", training={**self.spec.training, **other.spec.training}
        )
        about = f"`{self.name}` and `{other.name}` together"
        return replace(self, spec=spec, about=about, overrides={**self.overrides, **other.overrides})


def _of(name: str, recipe: str | tuple[str, ...], **training: Any) -> ArmSpec:
    return ArmSpec(name, recipe, training, tuned_as=STAND_IN)


_PROBE = {"model": "generator", "mode": "linear-probe"}

BASELINES: tuple[ArmSpec, ...] = tuple(
    replace(synthetic(name), name=name)
    for name in ("text", "image", "dropout", "embed-mixup-dropout", "embed-cutmix-dropout")
)
"""Rows that depend on the prompts."""

PROMPTLESS: tuple[ArmSpec, ...] = (LONG_TAIL_REAL[0], CEILING)
"""Rows that do not: measured once for all kinds of prompts."""

_MIXED = "embed-mixup-dropout"

PROBES = (
    ArmSpec("probe", None, _PROBE),
    ArmSpec("probe-text", "text", _PROBE),
    ArmSpec("probe-dropout", "dropout", _PROBE),
)
"""They ask whether synthetic images help what a user would really pick; they are not chosen."""

IDEAS: tuple[Idea, ...] = (
    Idea(
        _of("away", "dropout"),
        "guidance leads away from the mean image of the most similar other class (after DIPSY, without its separate "
        "weight: at the row's own guidance, which is strong)",
        overrides={"generator.away_from": "similar-class"},
    ),
    Idea(
        _of("away-mild", "dropout"),
        "the same at guidance 3",
        overrides={"generator.away_from": "similar-class", "generator.guidance_scale": 3.0},
    ),
    Idea(
        _of("near", _MIXED),
        "the two images that are mixed are near each other in the encoder's space",
        _MIXED,
        {"conditioning.neighbours": 3},
    ),
    Idea(_of("across", f"{_MIXED}-across"), "mixes across classes, with soft labels", _MIXED),
    Idea(
        _of("across-near", f"{_MIXED}-across"),
        "mixes near images across classes, with soft labels",
        _MIXED,
        {"conditioning.neighbours": 3},
    ),
    Idea(_of("half-text", ("dropout", "text")), "half of the images from `text`"),
    Idea(
        _of("screened", "dropout"),
        "drops what a classifier of real images is less sure of than of all but 5 % of the labelled validation images",
        overrides={"screening.by": "classifier"},
    ),
    Idea(
        _of("useful", "dropout"),
        "keeps half of what is made: of what that classifier finds right, the least certain",
        overrides={"screening.by": "classifier", "plan.oversample": 2},
        halved=True,
    ),
    Idea(
        _of("screened-encoder", "dropout"),
        "drops what lies nearer another class's mean of real images, in the generator's encoder, by more than all but "
        "5 % of the labelled validation images do",
        overrides={"screening.by": "encoder"},
    ),
    Idea(
        _of("useful-encoder", "dropout"),
        "keeps half of what is made: of what these means find right, the least certain",
        overrides={"screening.by": "encoder", "plan.oversample": 2},
        halved=True,
    ),
    Idea(
        _of("half-text-screened", ("dropout", "text")),
        "half of the images from `text`, and these means drop as in `screened-encoder`",
        overrides={"screening.by": "encoder"},
    ),
    Idea(
        _of("rounds", "dropout"),
        "half of the images in two rounds, where a small judge is weakest (deliberate practice)",
        halved=True,
        rounds=2,
    ),
    Idea(
        _of("adjusted", "dropout", loss="logit-adjustment", counts="effective"),
        "logit adjustment by what the sampler shows",
    ),
    Idea(
        _of("tilted", "dropout", synthetic_tilt=0.5),
        "more of the synthetic half of a batch for classes with few real images",
    ),
    Idea(
        _of("phased", "dropout"),
        "the last fifth of the long tail's steps on real images alone",
        overrides={"training.real_steps": 60},
    ),
    Idea(PROBES[0], "a linear probe on the generator's image encoder, real images alone", ""),
    Idea(PROBES[1], "the same probe, with images of `text`", "probe"),
    Idea(PROBES[2], "the same probe, with images of `dropout`", "probe"),
)
OF_TRAINING = ("adjusted", "tilted", "phased")
"""Ideas that change how images are trained on."""

NOT_CHOSEN = tuple(spec.name for spec in PROBES)

PILOTS = (Cell("unnamed"), Cell("coarse", 2))
KINDS = ("named", "unnamed", "coarse")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the campaign is; smoke makes a tiny one.

    Attributes:
        scale: of a unit.
        shots: numbers of images per class of the second step.
        pilot_seeds: of each pilot.
        seeds: of each row of the second step: none of those that its ideas were chosen with.
        trainings: of a seed in the second step, whose mean is its value.
        sense_seeds: of the rows with wrong senses.
        chosen: how many rows go on.
        ideas: those that are piloted.
        baselines: the rows that depend on the prompts.
        kinds: of prompts, in the second step.
    """

    scale: Scale
    shots: tuple[int, ...] = (1, 2, 4)
    pilot_seeds: int = 8
    seeds: int = 10
    trainings: int = 3
    sense_seeds: int = 4
    chosen: int = 3
    ideas: tuple[Idea, ...] = IDEAS
    baselines: tuple[ArmSpec, ...] = BASELINES
    kinds: tuple[str, ...] = KINDS

    @property
    def measuring_seeds(self) -> range:
        """The seeds of the second step: a model that helped to choose a row says nothing of how good the row is."""
        return range(self.pilot_seeds, self.pilot_seeds + self.seeds)


STEPS = 5
"""Of the sampling: fewer than the evidence's eight, for all rows alike. An image takes 0.7 of the time; what that does
to accuracies is measured by `benchmarks.speed_accuracy`."""


def _sampled(scale: Scale) -> Scale:
    return replace(scale, base={**scale.base, "generator": {**scale.base["generator"], "steps": STEPS}})


WHOLE = Size(_sampled(Scale()))
SMALL = Size(
    SMOKE,
    shots=(2,),
    pilot_seeds=1,
    seeds=1,
    trainings=2,
    sense_seeds=1,
    chosen=2,
    ideas=tuple(
        replace(idea, overrides={**idea.overrides, "training.real_steps": 1}) if idea.name == "phased" else idea
        for idea in IDEAS
    ),
    baselines=tuple(spec for spec in BASELINES if spec.name in ("text", "dropout", _MIXED)),
    kinds=("coarse",),
)
"""Does the whole chain run on this machine? Its numbers mean nothing."""
