"""The run folder: its files, the plan with its settings, and which shards are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn
from uuid import uuid4

import pyarrow as pa

from augcond.config import RunConfig, kept_text, load_kept_config
from augcond.datasets import Dataset, RejectedFile
from augcond.datasets.base import HeldOut
from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, is_special, known_sha256, links_outside, sync_folder, write_atomically
from augcond.sealed import open_table, parse_texts, read_table, write_table
from augcond.store.claims import TRAINING, Claims
from augcond.store.commit import ShardFiles, ShardMarker, discard, parse_marker, read_marker, those_that_hold_good
from augcond.store.fingerprint import SourceFacts
from augcond.store.names import FILES, RUNS
from augcond.store.operations import REAL
from augcond.store.plans import (
    WARNINGS,
    RunPlan,
    plan_fingerprints,
    plan_from_file,
    plan_inputs,
    plan_to_table,
    sources_sha256,
    sources_to_table,
)
from augcond.store.stored_plan import GROUP

_RESULTS: Final[Mapping[HeldOut, str]] = {"test": "results", "validation": "validation"}


class RunFolder:
    """The files of one run, named in `FILES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shards = self._file("shard", number=0).parent
        self.locks = self._file("claim", name="plan").parent
        self.config_path = self._file("config")
        self.plan_path = self._file("plan")
        self.sources_path = self._file("sources")
        self.split_path = self._file("split")
        self.screening_path = self._file("screening")
        self.rounds_path = self._file("rounds")
        self.margins_path = self._file("margins")
        self.push_path = self._file("dataset card").parent
        self.rejected_path = self._file("rejected")
        self.report_path = self._file("page").parent
        self.page_path = self._file("page")
        self.log_path = self._file("log")
        self.sweep_path = self._file("sweep")
        self.tuning_path = self._file("tuning")
        self.tuned_path = self._file("tuned config")
        self.tuned_run_path = self._file("tuned run")
        self.study_path = self._file("study")

    def _file(self, kind: str, /, **which: object) -> Path:
        return self.path / FILES[kind].pattern.format(**which)

    def shard_path(self, number: int) -> Path:
        """Return the path of shard `number`, which its marker names; the plain name where it has none."""
        marker = read_marker(self.marker_path(number))
        return self._file("shard", number=number) if marker is None else self.shards / marker.file

    def shard_files(self, number: int, attempt: str) -> ShardFiles:
        """Return the files of an attempt at shard `number`."""
        plain = self._file("shard", number=number)
        return ShardFiles(plain, self.marker_path(number), self.unfit_path(number), attempt)

    def marker_path(self, number: int) -> Path:
        """Return the path of the done marker of shard `number`."""
        return self._file("marker", number=number)

    def unfit_path(self, number: int) -> Path:
        """Return where the marker of shard `number` is set aside once the shard is not what was committed."""
        return self._file("marker set aside", number=number)

    def claims(self) -> Claims:
        """Return what this process is a worker of the run by, within its context."""
        return Claims(self.locks, self._remove_attempt)

    def _remove_attempt(self, name: str, attempt: str) -> None:
        """Delete what an attempt at a shard left unfinished; what else can be claimed leaves nothing."""
        if name.isdecimal():
            discard(self.shard_files(int(name), attempt))

    def embeddings_path(self, number: int) -> Path:
        """Return the path of the embeddings of block `number` of the sources."""
        return self._file("embeddings", number=number)

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

    def mapped_shard_path(self, number: int) -> Path:
        """Return the path of the images of shard `number` as they are mapped into memory."""
        return self._file("mapped shard", number=number)

    def sweep_table_path(self, ending: str) -> Path:
        """Return the path of a sweep's table, as `csv`, `md` or `tex`."""
        return self._file("sweep table", ending=ending)

    def cell_path(self, kind: str, point: str, seed: int) -> Path:
        """Return the run folder of a cell of a sweep."""
        return self._file("cell", kind=kind, point=point, seed=seed)

    def cells(self) -> list[RunFolder]:
        """Return the runs of a sweep or of a tuning, sorted."""
        return [RunFolder(path) for kind in RUNS for path in sorted(self.path.glob(FILES[kind].glob))]

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

    def clear(self, kept: Path | None = None) -> None:
        """Delete the images and all that was made of them; see `FILES`. Others stay, and `kept`."""
        emptied: set[Path] = set()
        for file in FILES.values():
            for path in self._written(file.glob) if file.goes else ():
                if kept is None or path.resolve() != kept.resolve():
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
        return plan_from_file(open_table(self.plan_path, FILES["plan"].mend), self.plan_path)

    def read_plan_of(self, inputs: str) -> RunPlan | None:
        """Return the plan that lies here if it was made of `inputs`, so that it need not be made and compared again.

        Args:
            inputs: hex digest of all that a plan is made of.

        Raises:
            CorruptRunError: `plan.parquet` is not what augcond wrote.
        """
        if plan_inputs(self.plan_path) != inputs:
            return None
        try:
            self._sources(("key",))
        except CorruptRunError:
            return None  # which planning writes anew
        return self.read_plan()

    def plans(self, run_plan: RunPlan) -> bool:
        """Return whether the plan that lies here has the shards of `run_plan`, and maybe more behind them."""
        return tuple(plan_fingerprints(self.plan_path)[: len(run_plan.fingerprints)]) == run_plan.fingerprints

    def write_plan(self, run_plan: RunPlan, config: RunConfig, dataset: Dataset) -> None:
        """Write the config, the sources and, last and atomically, the plan."""
        self.write_config(config)
        sources = write_table(self.sources_path, sources_to_table(dataset))
        write_table(self.plan_path, plan_to_table(run_plan, sources), GROUP)

    def read_sources(self) -> dict[str, tuple[int, str]]:
        """Return label and sha256 of every real training image that the run may use, by key.

        Raises:
            CorruptRunError: `sources.parquet` is missing or damaged.
        """
        columns = (column.to_pylist() for column in self._sources(("key", "label", "sha256")).columns)
        return {key: (label, sha256) for key, label, sha256 in zip(*columns, strict=True) if sha256 is not None}

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
        found = (self._sources(("key",)).schema.metadata or {}).get(WARNINGS, b"[]")
        return parse_texts(found, self.sources_path, FILES["sources"].mend)

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
        read = partial(read_table, self.sources_path, FILES["sources"].mend, columns, by=self.plan_path.name)
        expected = sources_sha256(self.plan_path)
        try:
            return read(sha256=expected).content
        except FileNotFoundError:
            raise CorruptRunError(f"{self.sources_path} is missing: {FILES['sources'].mend}") from None
        except CorruptRunError:
            # A run that grows replaces both, one after the other.
            if (now := sources_sha256(self.plan_path)) == expected:
                raise
            return read(sha256=now).content

    def done(self, number: int, fingerprint: str) -> ShardMarker | None:
        """Return the marker of shard `number` if it is done as `fingerprint` says, else None."""
        marker = read_marker(self.marker_path(number))
        if marker is None or marker.fingerprint != fingerprint:
            return None
        return marker if self._is_there(marker) else None

    def _is_there(self, marker: ShardMarker) -> bool:
        return REAL.size(self.shards / marker.file) == marker.bytes

    def markers(self, run_plan: RunPlan) -> list[ShardMarker | None]:
        """Return the marker of every shard, None where it is not done."""
        # One look at the folder: a run that has begun lacks most of them.
        names = set(REAL.names(self.shards))
        paths = map(self.marker_path, range(len(run_plan.fingerprints)))
        markers = [read_marker(path) if path.name in names else None for path in paths]
        return those_that_hold_good(markers, run_plan.fingerprints, self.shards)

    @property
    def is_being_trained(self) -> bool:
        """Whether a training reads the images, so that no shard may go."""
        return self._file("claim", name=TRAINING).exists()

    def holds_good(self, number: int, data: bytes, fingerprint: str) -> bool:
        """Return whether a marker of shard `number` is to be left alone by a worker that makes it as `fingerprint`.

        Args:
            number: of the shard.
            data: contents of the marker; whether the plan is still the one that the worker has is asked after they were
                read, because markers of a newer plan come after it.
            fingerprint: that the plan gave the shard when the worker read it.
        """
        marker = parse_marker(data, self.marker_path(number))
        if marker is None or not self._is_there(marker):
            return False
        return marker.fingerprint == fingerprint or marker.fingerprint == self._fingerprint_now(number)

    def _fingerprint_now(self, number: int) -> str | None:
        try:
            fingerprints = plan_fingerprints(self.plan_path)
        except CorruptRunError:
            return None
        return fingerprints[number] if number < len(fingerprints) else None

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
        for number in unfit:
            # Another process may have made it anew meanwhile.
            markers[number] = read_marker(self.marker_path(number))
        if unfit := [number for number in unfit if not self.is_intact(number, markers[number])]:
            self._refuse(unfit, markers)
        return markers

    def is_intact(self, number: int, marker: ShardMarker | None) -> bool:
        """Return whether shard `number` has the bytes that its marker says, if it has one."""
        try:
            return marker is None or known_sha256(self.shards / marker.file) == marker.sha256
        except FileNotFoundError:
            return False

    def set_aside(self, number: int, marker: ShardMarker | None) -> None:
        """Keep `marker`, of a shard that is not what was committed, under another name: it is not done any more."""
        data = REAL.read(self.marker_path(number))
        if data is not None and parse_marker(data, self.marker_path(number)) == marker:
            files = self.shard_files(number, uuid4().hex)
            if REAL.take_away(files.marker, data, files.old_marker) is not None:
                REAL.move(files.old_marker, files.unfit)

    def _refuse(self, unfit: Sequence[int], markers: Sequence[ShardMarker | None]) -> NoReturn:
        names = ", ".join(self.shard_path(number).name for number in unfit)
        what = f"{names} in {self.shards}: not what was committed (the sha256 of the marker is another)"
        try:
            for number in unfit:
                self.set_aside(number, markers[number])
        except OSError as error:
            raise CorruptRunError(f"{what}. Delete it there, and augcond generate makes it anew ({error})") from error
        raise CorruptRunError(f"{what}. It does not count as done any more: augcond generate makes it anew")

    def remove_temporary(self) -> None:
        """Delete half-written files of the plan and its sources; call it while no other process writes those.

        Those of embeddings too: who writes one meanwhile does without.
        """
        for path in (*self.path.glob(f"*{TEMPORARY}"), *self.embeddings_path(0).parent.glob(f"*{TEMPORARY}")):
            path.unlink(missing_ok=True)
