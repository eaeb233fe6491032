"""What of a run is known before any work is done, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from augcond.config import RunConfig, ScreeningConfig, TrainingConfig
from augcond.datasets import Dataset, ImageRecord, Listing, RejectedFile, Split, subset
from augcond.datasets.contents import NOT_FOUND
from augcond.datasets.loading import list_held_out, list_images
from augcond.datasets.readers import FileReader
from augcond.datasets.splits import draw_split, source_images
from augcond.errors import AugcondError
from augcond.planning import checked_amounts
from augcond.training.arms import Arm, arms_of

if TYPE_CHECKING:
    from augcond.datasets.base import HeldOut

T = TypeVar("T")

Work = Literal["generate", "train", "evaluate"]
EVERYTHING: Final[frozenset[Work]] = frozenset(get_args(Work))

Listed = dict[str, Dataset | AugcondError | None]
"""Images by their role and `data` section, for runs that share them."""

_OWN_ENCODER = ("encoder", "prompts")
"""Judges of screening that are the generator's own encoders."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a run lacks.

    Attributes:
        what: key of the config, or data, test images, weights, extra, GPU, disk, ...
        detail: what is wrong and what to do about it.
        error: what the run would stop with; None where it can go on, as with weights that it fetches.
    """

    what: str
    detail: str
    error: type[AugcondError] | None = None


@dataclass(frozen=True, slots=True)
class RealImages:
    """The real images of a run as they are listed, those that are not there left out.

    Attributes:
        pool: all of them, as if they had been decoded.
        split: which of them are trained on.
        training: those.
        sources: those that generation is conditioned on.
    """

    pool: Dataset
    split: Split
    training: Dataset
    sources: Dataset


class Look:
    """What of a run is known before any work is done; what cannot be known is the error that says why.

    Args:
        config: the run.
        work: what is to be done.
        on: which images models are to be judged on.
        listed: what other runs listed; grows.
    """

    def __init__(
        self,
        config: RunConfig,
        work: Collection[Work],
        on: HeldOut = "test",
        listed: Listed | None = None,
    ) -> None:
        self.config, self.work, self.on = config, frozenset(work), on
        self._listed: Listed = {} if listed is None else listed

    @property
    def trains(self) -> bool:
        """Whether training is looked at: it is to be done, or the config says how, so that it will be.

        Generation alone is no reason: where `training` and `screening` are left at their defaults, nothing that trains
        is imported.
        """
        own = self.config.training != TrainingConfig() or self.config.screening != ScreeningConfig()
        return "train" in self.work or ("generate" in self.work and own)

    @property
    def screens(self) -> bool:
        """Whether generated images are screened."""
        synthetic = any(arm.kind == "synthetic" for arm in self.arms_or_none)
        return self.trains and self.config.screening.by != "none" and synthetic

    @property
    def uses_generator(self) -> bool:
        """Whether the generator is loaded: to generate, or for its image encoder."""
        probes = any(arm.config.model == "generator" for arm in self.arms_or_none)
        own = (self.trains or "evaluate" in self.work) and probes
        return "generate" in self.work or own or (self.screens and self.config.screening.by in _OWN_ENCODER)

    @cached_property
    def arms(self) -> tuple[Arm, ...] | AugcondError:
        """The rows of the table of results."""
        return tried(partial(arms_of, self.config))

    @property
    def arms_or_none(self) -> tuple[Arm, ...]:
        """The same, empty where they are wrong."""
        return () if isinstance(self.arms, AugcondError) else self.arms

    @cached_property
    def real(self) -> RealImages | AugcondError:
        """The real images and their split."""
        pool = self._list("train", partial(list_images, self.config.data))
        return pool if isinstance(pool, AugcondError) else tried(partial(self._split, pool))

    def _split(self, pool: Dataset | None) -> RealImages:
        if pool is None:
            raise AssertionError("images to learn from are listed or refused")
        split = draw_split(self.config, pool)
        return RealImages(pool, split, subset(pool, split.train), source_images(self.config, pool, split))

    @cached_property
    def amounts(self) -> list[int] | AugcondError:
        """Images to make per class, of each recipe."""
        if isinstance(self.real, AugcondError):
            return self.real
        return tried(partial(checked_amounts, self.real.sources, self.config.plan, self.config.conditioning))

    def held_out(self, on: HeldOut) -> Dataset | AugcondError | None:
        """The images of `on` that the config names or its source brings; None where there are none."""
        return self._list(on, partial(list_held_out, self.config.data, on))

    def _list(self, role: str, find: Callable[[], Listing | None]) -> Dataset | AugcondError | None:
        key = f"{role} {self.config.data.model_dump_json(exclude={'split'})}"
        if key not in self._listed:
            listing = tried(find)
            # What a folder lists is there; what a file lists need not be.
            known = self.config.data.source == "folder"
            self._listed[key] = _as_dataset(listing, known=known) if isinstance(listing, Listing) else listing
        return self._listed[key]


def tried(function: Callable[[], T]) -> T | AugcondError:
    """Return what `function` returns, or the error that it raises."""
    try:
        return function()
    except AugcondError as error:
        return error


def raised(what: str, found: object) -> Iterator[Problem]:
    """Yield the problem that an error is; nothing for anything else."""
    if isinstance(found, AugcondError):
        yield Problem(what, str(found), type(found))


def _as_dataset(listing: Listing, *, known: bool) -> Dataset:
    """Return the listed images as if they had been decoded, those that are not there rejected."""
    reader = listing.reader
    gone: set[str] = set()
    if isinstance(reader, FileReader) and not known:
        gone = {key for key in listing.keys if reader.stat(key) is None}
    pairs = list(zip(listing.keys, listing.labels, strict=True))
    return Dataset(
        classes=listing.classes,
        class_names=listing.class_names,
        images=tuple(ImageRecord(key, label, 0, 0, "") for key, label in pairs if key not in gone),
        rejected=(
            *listing.rejected,
            *(RejectedFile(key, label, NOT_FOUND) for key, label in pairs if key in gone),
        ),
        reader=reader,
        skipped=listing.skipped,
        warnings=listing.warnings,
        several_names=listing.several_names,
    )


def to_fetch(what: str, repository: str, error: type[AugcondError]) -> Problem:
    """Return that `repository` is not in the local cache; an `error` where the hub may not be asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        detail = f"{repository} is not in the local cache, and HF_HUB_OFFLINE is set: fetch it first (hf download "
        return Problem(what, f"{detail}{repository}), or name a local copy", error)
    detail = f"{repository} is not in the local cache: fetched from the hub at first use (hf download {repository})"
    return Problem(what, detail)
