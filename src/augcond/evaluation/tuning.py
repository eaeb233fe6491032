"""What a tuning found: the schema of `tuning.json`. The statistics behind it: `tuning_choice.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from augcond.errors import RunError
from augcond.sealed import read_json, typed, unfit, write_json
from augcond.store.names import FILES

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Of `tuning.json`; goes up where an older augcond would misread it."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A gain over real images alone in mean accuracy per class, with its interval.

    Attributes:
        mean: the estimate, a difference of shares.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """Points for people, such as `+2.1 (-0.3 to +4.5)`."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate in one round.

    Attributes:
        name: of the candidate.
        settings: what it sets, by key of the config; `amount` is a share of the plan.
        score: gain over real images alone, of the trainings of this round; of the cheap judge where that ranks.
        kept: whether it went on to the next round, or was picked in the last.
    """

    name: str
    settings: Mapping[str, Any]
    score: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the halving.

    Attributes:
        images: that a fold uses of each set by its end.
        made: made in the whole study by its end.
        judge: what ranked: `training`, or `probe`, the generator's image encoder with a linear classifier.
        tried: its candidates, the best first.
        best: estimated gain of what would be chosen, or of the best where that is real images alone, the winner's curse
            paid; where each was trained once, that of the images alone, with an assumed spread between trainings.
    """

    images: int
    made: int
    judge: str
    tried: tuple[Tried, ...]
    best: Gain


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `augcond tune` found.

    Attributes:
        chosen: name of the candidate that `tuned.yaml` holds, or `real-only`.
        settings: what it sets, by key of the config; empty for `real-only`.
        gain: estimated of what was chosen, or of the best candidate; None where nothing could be judged.
        finalists: the candidates of the last round, each with the gain of its own trainings: the winner's curse is not
            paid in these.
        sentence: what it comes to, for people.
        budget: as it was given.
        images: that were made.
        real_images: real training images.
        judged_images: how many of them are ever held out.
        classes: how many classes these have.
        folds: of each cross-validation.
        trainings: cross-validations of each candidate of the last round.
        real_accuracy: mean accuracy per class of real images alone over the folds; None where nothing could be judged.
        rounds: of the halving.
        rank_correlation: Spearman's, of the cheap judge with trainings; None where it was not asked.
        compared: candidates that the correlation is over.
        left_out: recipes that cannot be judged with these images, each with the reason.
        notes: what else to know.
        study_sha256: of the study's journal as it was when this was written.
    """

    chosen: str
    settings: Mapping[str, Any]
    gain: Gain | None
    finalists: tuple[tuple[str, Gain], ...]
    sentence: str
    budget: str
    images: int
    real_images: int
    judged_images: int
    classes: int
    folds: int
    trainings: int
    real_accuracy: float | None
    rounds: tuple[Round, ...]
    rank_correlation: float | None
    compared: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    study_sha256: str


def write_tuning(path: Path, found: Tuning) -> None:
    """Write `tuning.json`, whole or not at all."""
    write_json(path, {"format": FORMAT, **asdict(found)})


def read_tuning(path: Path) -> Tuning:
    """Return what `write_tuning` wrote.

    Raises:
        RunError: there is none, or a newer augcond wrote it.
        CorruptRunError: it is not what was written.
    """
    mend = FILES["tuning"].mend
    try:
        values = read_json(path, mend).content
        if values.pop("format") > FORMAT:
            raise RunError(f"{path} was written by a newer augcond: update augcond")
        return typed(Tuning, values)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: run augcond tune first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(path, error, mend) from error
