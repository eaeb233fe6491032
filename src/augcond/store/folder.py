"""The run folder: its files, the plan with its settings, and which shards are done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, NoReturn

import pyarrow as pa

from augcond.config import RunConfig, kept_text, load_kept_config
from augcond.datasets import Dataset, RejectedFile
from augcond.datasets.base import HeldOut
from augcond.datasets.splits import MEND_SPLIT
from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, is_special, known_sha256, links_outside, sync_folder, write_atomically
from augcond.sealed import read_table, write_table
from augcond.store.commit import ShardMarker, read_marker
from augcond.store.fingerprint import SourceFacts
from augcond.store.plans import MEND_PLAN, RunPlan, plan_from_table, plan_to_table, sources_sha256


@dataclass(frozen=True, slots=True)
class RunFile:
    """One kind of file in a run folder.

    Attributes:
        pattern: its path in the run folder; names in braces stand for what tells several of a kind apart.
        goes: whether it goes when a run is made anew: images, and what was made of them.
        seal: how it says itself whether it is what was written (`augcond.sealed`); None where it does not.
        mend: what is to be done where it is not.
    """

    pattern: str
    goes: bool = True
    seal: Literal["json", "parquet", "safetensors"] | None = None
    mend: str = ""

    @property
    def glob(self) -> str:
        """Matches all files of the kind."""
        return re.sub(r"\{.*?\}", "*", self.pattern)


CARD, WEIGHTS, CHECKPOINT = "model.json", "model.safetensors", "checkpoint.safetensors"
UNFIT_CARD = "model.unfit.json"
"""The files of a model, in the folder of its arm and training seed."""
_MODEL = "models/{arm}/seed-{seed}/"

_WARNINGS = b"augcond.warnings"
"""In the metadata of `sources.parquet`: what looked wrong with the real images."""

_TRAIN = "augcond train trains it anew"
_SCREEN = "the next augcond train screens anew"
_EVALUATE = "run augcond evaluate again"
_DECODE = "the next command decodes every image again"

FILES: Final[Mapping[str, RunFile]] = {
    # What goes, in this order: a crash in between leaves shards without a plan, which the next plan ignores.
    "plan": RunFile("plan.parquet", seal="parquet", mend=MEND_PLAN),
    "sources": RunFile("sources.parquet", seal="parquet", mend="augcond generate writes it anew"),
    "config": RunFile("config.yaml", mend="augcond generate CONFIG writes it anew"),
    "shard": RunFile("shards/{number:05d}.parquet", mend="augcond generate makes it anew"),
    "marker": RunFile("shards/{number:05d}.done.json", seal="json", mend="augcond generate makes its shard anew"),
    "marker set aside": RunFile("shards/{number:05d}.unfit.json"),
    "split": RunFile("split.json", seal="json", mend=MEND_SPLIT),
    "screening": RunFile("screening.json", seal="json", mend=_SCREEN),
    "margins": RunFile("screening.parquet", seal="parquet", mend=_SCREEN),
    "card": RunFile(_MODEL + CARD, seal="json", mend=_TRAIN),
    "card set aside": RunFile(_MODEL + UNFIT_CARD),
    "weights": RunFile(_MODEL + WEIGHTS, mend=_TRAIN),
    "checkpoint": RunFile(_MODEL + CHECKPOINT, seal="safetensors", mend=_TRAIN),
    "predictions": RunFile("predictions/{on}/{arm}/seed-{seed}.parquet", seal="parquet", mend=_EVALUATE),
    "results": RunFile("results.json", seal="json", mend=_EVALUATE),
    "validation": RunFile("validation.json", seal="json", mend=_EVALUATE),
    "mapped": RunFile("cache/{recipe}.arrow"),
    "page": RunFile("report/index.html"),
    "figure": RunFile("report/figures/{name}"),
    "picture": RunFile("report/images/{name}"),
    "list of the report": RunFile("report/.augcond-files.txt"),
    # What stays: what decoding found of the real images, and who works here.
    "decoded": RunFile("decoded.parquet", goes=False, seal="parquet", mend=_DECODE),
    "decoded held-out": RunFile("decoded-{on}.parquet", goes=False, seal="parquet", mend=_DECODE),
    "lock": RunFile("locks/{name}.lock", goes=False),
    "log": RunFile("log.txt", goes=False),
    # The folder of a sweep, which is no run of its own, but holds runs.
    "sweep": RunFile("sweep.json", goes=False, seal="json", mend="run augcond sweep again"),
    "sweep table": RunFile("sweep.{ending}", goes=False),
    "cell": RunFile("cells/{kind}/{point}/seed-{seed}", goes=False),
}
"""Every file of a run, and of a sweep; a folder stands for all that is in it."""

_RESULTS: Final[Mapping[HeldOut, str]] = {"test": "results", "validation": "validation"}


class RunFolder:
    """The files of one run, named in `FILES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shards = self.shard_path(0).parent
        self.locks = self.lock_path("plan").parent
        self.config_path = self._file("config")
        self.plan_path = self._file("plan")
        self.sources_path = self._file("sources")
        self.split_path = self._file("split")
        self.screening_path = self._file("screening")
        self.margins_path = self._file("margins")
        self.report_path = self._file("page").parent
        self.page_path = self._file("page")
        self.log_path = self._file("log")
        self.sweep_path = self._file("sweep")

    def _file(self, kind: str, /, **which: object) -> Path:
        return self.path / FILES[kind].pattern.format(**which)

    def shard_path(self, number: int) -> Path:
        """Return the path of shard `number`."""
        return self._file("shard", number=number)

    def marker_path(self, number: int) -> Path:
        """Return the path of the done marker of shard `number`."""
        return self._file("marker", number=number)

    def unfit_path(self, number: int) -> Path:
        """Return where the marker of shard `number` is set aside once the shard is not what was committed."""
        return self._file("marker set aside", number=number)

    def lock_path(self, name: str) -> Path:
        """Return the path of a lock."""
        return self._file("lock", name=name)

    def decoded_path(self, on: HeldOut | None = None) -> Path:
        """Return where it is kept what decoding found of the images to learn from, or of those held out."""
        return self._file("decoded") if on is None else self._file("decoded held-out", on=on)

    def model_path(self, arm: str, seed: int) -> Path:
        """Return the folder of the model of an arm and a training seed."""
        return self.card_path(arm, seed).parent

    def card_path(self, arm: str, seed: int) -> Path:
        """Return the path of what that model is; the model is whole where it exists."""
        return self._file("card", arm=arm, seed=seed)

    def card_paths(self) -> list[Path]:
        """Return the cards of all models, sorted."""
        return sorted(self.path.glob(FILES["card"].glob))

    def predictions_path(self, on: HeldOut, arm: str, seed: int) -> Path:
        """Return the path of what the model of an arm and a training seed says of each image of `on`."""
        return self._file("predictions", on=on, arm=arm, seed=seed)

    def results_path(self, on: HeldOut = "test") -> Path:
        """Return the path of what the models' judgement on `on` gave."""
        return self._file(_RESULTS[on])

    def mapped_path(self, recipe: str) -> Path:
        """Return the path of the images of a recipe as they are mapped into memory."""
        return self._file("mapped", recipe=recipe)

    def sweep_table_path(self, ending: str) -> Path:
        """Return the path of a sweep's table, as `csv` or `md`."""
        return self._file("sweep table", ending=ending)

    def cell_path(self, kind: str, point: str, seed: int) -> Path:
        """Return the run folder of a cell of a sweep."""
        return self._file("cell", kind=kind, point=point, seed=seed)

    def cells(self) -> list[RunFolder]:
        """Return the runs of a sweep, sorted."""
        return [RunFolder(path) for path in sorted(self.path.glob(FILES["cell"].glob))]

    @property
    def exists(self) -> bool:
        """Whether a run lies here: a folder that merely holds a file called config.yaml is none."""
        return self.config_path.is_file() and (
            self.locks.is_dir() or self.plan_path.is_file() or self.split_path.is_file()
        )

    def create(self) -> None:
        """Make the folder.

        Raises:
            RunError: the place is taken by something that is no run, or a link in it leads out of it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: name another folder as `run`")
        # In this order: another process that makes the folder meanwhile makes the locks first.
        taken = self.path.is_dir() and any(self.path.iterdir()) and not self.locks.exists()
        if taken and not self.plan_path.exists() and not self.exists:
            raise RunError(f"{self.path} holds files but no run: name an empty or new folder as `run`")
        self._refuse_links()
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            self.shards.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be made: {error.strerror}") from error

    def _refuse_links(self) -> None:
        """Check that what is read and written here lies here: a run may be a stranger's.

        Raises:
            RunError: a link in the folder leads out of it, or the config is a pipe.
        """
        for link in links_outside(self.path):
            raise RunError(
                f"{link} is a link that leads out of the run folder: remove it (to keep a run on another disk, make "
                "the whole folder a link)"
            )
        if is_special(self.config_path):
            raise RunError(f"{self.config_path} is no file: remove it")

    def clear(self) -> None:
        """Delete the images and all that was made of them; see `FILES`. What augcond did not write stays."""
        emptied: set[Path] = set()
        for file in FILES.values():
            for path in self._written(file.glob) if file.goes else ():
                path.unlink()
                emptied.update(self.path / parent for parent in path.relative_to(self.path).parents)
        sync_folder(self.shards)
        for folder in sorted(emptied - {self.path, self.shards}, reverse=True):
            with suppress(OSError):  # what somebody else put there stays
                folder.rmdir()

    def _written(self, pattern: str) -> list[Path]:
        """Return the files of a kind, and what a killed process left of them half-written."""
        return [*self.path.glob(pattern), *self.path.glob(f"{pattern}.*{TEMPORARY}")]

    def write_config(self, config: RunConfig) -> None:
        """Write what the run was started with."""
        write_atomically(self.config_path, kept_text(config).encode())

    def read_config(self, overrides: tuple[str, ...] = ()) -> RunConfig:
        """Return the config that the run was last started with, for where it lies now.

        Raises:
            RunError: there is no run here, or a link in it leads out of it.
            CorruptRunError: the file is not what augcond wrote.
        """
        self._refuse_links()
        return load_kept_config(self.config_path, overrides)

    def read_plan(self) -> RunPlan:
        """Return the plan as it was last written.

        Raises:
            RunError: there is no plan here.
            CorruptRunError: `plan.parquet` is not what augcond wrote.
        """
        if not self.plan_path.exists():
            raise RunError(f"{self.path} is no run: it has no plan.parquet (augcond generate CONFIG makes it)")
        return plan_from_table(read_table(self.plan_path, FILES["plan"].mend).content, self.plan_path)

    def write_plan(self, run_plan: RunPlan, config: RunConfig, dataset: Dataset) -> None:
        """Write the config, the sources and, last and atomically, the plan."""
        self.write_config(config)
        sources = write_table(self.sources_path, _sources_table(dataset))
        write_table(self.plan_path, plan_to_table(run_plan, sources))

    def read_sources(self) -> dict[str, tuple[int, str]]:
        """Return label and sha256 of every real training image that the run may use, by key.

        Raises:
            CorruptRunError: `sources.parquet` is missing or damaged.
        """
        rows = self._sources(("key", "label", "sha256")).to_pylist()
        return {row["key"]: (row["label"], row["sha256"]) for row in rows if row["sha256"] is not None}

    def read_rejected(self) -> tuple[RejectedFile, ...]:
        """Return the real images that cannot be used.

        Raises:
            CorruptRunError: `sources.parquet` is missing or damaged.
        """
        rows = self._sources(("key", "label", "reason")).to_pylist()
        return tuple(RejectedFile(**row) for row in rows if row["reason"] is not None)

    def read_data_warnings(self) -> tuple[str, ...]:
        """Return what looked wrong with the real images when the run was planned.

        Raises:
            CorruptRunError: `sources.parquet` is missing or damaged.
        """
        found = (self._sources(("key",)).schema.metadata or {}).get(_WARNINGS)
        return () if found is None else tuple(json.loads(found))

    def read_source_facts(self, versions: Mapping[str, int]) -> SourceFacts:
        """Return what of the run's real images decides which images are made of them.

        Args:
            versions: of the paths of computation, as its plan records them.
        """
        rows = [row for row in self._sources().to_pylist() if row["sha256"] is not None]
        # 0.1 did not record the paths.
        paths = {row["key"]: tuple(row["paths"]) for row in rows if row.get("paths") is not None}
        return SourceFacts({row["key"]: row["sha256"] for row in rows}, paths, versions)

    def _sources(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table of sources that the plan vouches for."""
        read = partial(read_table, self.sources_path, FILES["sources"].mend, columns)
        expected = sources_sha256(self.plan_path)
        try:
            return read(sha256=expected).content
        except FileNotFoundError:
            raise CorruptRunError(f"{self.sources_path} is missing: {FILES['sources'].mend}") from None
        except CorruptRunError:
            # A run that grows replaces both, one after the other.
            now = sources_sha256(self.plan_path)
            if now == expected:
                raise
            return read(sha256=now).content

    def done(self, number: int, fingerprint: str) -> ShardMarker | None:
        """Return the marker of shard `number` if it is done as `fingerprint` says, else None."""
        marker = read_marker(self.marker_path(number))
        if marker is None or marker.fingerprint != fingerprint:
            return None
        path = self.shard_path(number)
        if not path.exists() or path.stat().st_size != marker.bytes:
            return None
        return marker

    def markers(self, run_plan: RunPlan) -> list[ShardMarker | None]:
        """Return the marker of every shard, None where it is not done."""
        return [self.done(number, fingerprint) for number, fingerprint in enumerate(run_plan.fingerprints)]

    def verified_markers(self, run_plan: RunPlan) -> list[ShardMarker | None]:
        """Return what `markers` does, for who reads the images: the bytes of every shard are compared with its marker.

        Each shard is read once per process. Those that are not what was committed do not count as done from now on.

        Raises:
            CorruptRunError: there are such; it names them.
        """
        markers = self.markers(run_plan)
        with ThreadPoolExecutor() as threads:
            intact = threads.map(self.is_intact, range(len(markers)), markers)
            unfit = [number for number, fits in enumerate(intact) if not fits]
        # Another process may have made it anew meanwhile.
        unfit = [number for number in unfit if not self.is_intact(number, read_marker(self.marker_path(number)))]
        if unfit:
            self._refuse(unfit)
        return markers

    def is_intact(self, number: int, marker: ShardMarker | None) -> bool:
        """Return whether shard `number` has the bytes that its marker says, if it has one."""
        path = self.shard_path(number)
        try:
            return marker is None or known_sha256(path) == marker.sha256
        except FileNotFoundError:
            return False

    def set_aside(self, number: int) -> None:
        """Keep the marker of a shard that is not what was committed under another name: it is not done any more."""
        with suppress(FileNotFoundError):
            self.marker_path(number).replace(self.unfit_path(number))

    def _refuse(self, unfit: Sequence[int]) -> NoReturn:
        names = ", ".join(self.shard_path(number).name for number in unfit)
        what = f"{names} in {self.shards}: not what was committed (the sha256 of the marker is another)"
        try:
            for number in unfit:
                self.set_aside(number)
        except OSError as error:
            raise CorruptRunError(f"{what}. Delete it there, and augcond generate makes it anew ({error})") from error
        raise CorruptRunError(f"{what}. It does not count as done any more: augcond generate makes it anew")

    def remove_temporary(self) -> None:
        """Delete half-written files of the plan and its sources; call it while no other process writes those."""
        for path in self.path.glob(f"*{TEMPORARY}"):
            path.unlink(missing_ok=True)

    def remove_temporary_shards(self, mine: Callable[[int], bool]) -> None:
        """Delete what a killed process left half-written, of the shards for which `mine(number)` holds."""
        for path in self.shards.glob(f"*{TEMPORARY}"):
            number = path.name.split(".", 1)[0]
            if number.isdigit() and mine(int(number)):
                path.unlink(missing_ok=True)


def _sources_table(dataset: Dataset) -> pa.Table:
    rejected = dataset.rejected
    table = pa.table(
        {
            "key": [i.key for i in dataset.images] + [r.key for r in rejected],
            "label": pa.array([i.label for i in dataset.images] + [r.label for r in rejected], pa.int32()),
            "sha256": pa.array([i.sha256 for i in dataset.images] + [None] * len(rejected), pa.string()),
            "width": pa.array([i.width for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "height": pa.array([i.height for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "reason": pa.array([None] * len(dataset.images) + [r.reason for r in rejected], pa.string()),
            "paths": pa.array([i.paths for i in dataset.images] + [None] * len(rejected), pa.list_(pa.string())),
        }
    )
    return table.replace_schema_metadata({_WARNINGS: json.dumps(dataset.warnings)}) if dataset.warnings else table
