"""Export a run's images to layouts that other tools read: class folders, or WebDataset tars."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from augcond.errors import ConfigError, CorruptRunError, RunError
from augcond.files import foreign_entries, replacing_contents
from augcond.planning import index_of
from augcond.progress import NoProgress, Progress
from augcond.store.folder import RunFolder
from augcond.store.plans import RunPlan
from augcond.store.shards import COLUMNS, OK, PROVENANCE, shard_rows

ExportFormat = Literal["imagefolder", "webdataset"]

_LONGEST_NAME = 200


def export_run(
    folder: RunFolder,
    to: Path,
    layout: ExportFormat,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write every image of the run to `to`, and return their number.

    `imagefolder`: one sub-folder per class and `metadata.csv` with every image's origin; opens in torchvision's
    ImageFolder and in `datasets.load_dataset("imagefolder", ...)`. `webdataset`: one tar per shard, with image,
    `.cls` and `.json`.

    Args:
        folder: the run.
        to: the folder to write.
        layout: see above.
        overwrite: replace an earlier export there. What `export_run` did not write is never touched.
        progress: is told how many images are written.

    Raises:
        ConfigError: there is no such layout.
        RunError: nothing is done yet; `to` holds an export and `overwrite` is not given, or files that are none; or it
            lies in the real images.
    """
    if layout not in _WRITERS:
        raise ConfigError(f"--format {layout!r}: expected {' or '.join(_WRITERS)}")
    plan = folder.read_plan()
    _check_place(folder, to, overwrite=overwrite)
    done = [marker for marker in folder.verified_markers(plan) if marker is not None]
    if not done:
        raise RunError(f"{folder.path} holds no finished shard to export: run augcond generate first")
    progress = progress or NoProgress()
    progress.start(sum(marker.ok for marker in done))
    with replacing_contents(to) as partial:
        return _WRITERS[layout](folder, plan, partial, progress)


def _check_place(folder: RunFolder, to: Path, *, overwrite: bool) -> None:
    data = folder.read_config().data
    for real in (data.path, data.test, data.validation):
        if real is not None and real.is_dir() and to.resolve().is_relative_to(real.resolve()):
            raise RunError(f"{to} lies in {real}, which holds real images: name a folder outside of it")
    if not to.exists():
        return
    if not to.is_dir():
        raise RunError(f"{to} is a file: name a folder")
    foreign = next(foreign_entries(to), None)
    if foreign is not None:
        raise RunError(f"{to} holds what this export did not write ({foreign}), and which stays: name another folder")
    if any(to.iterdir()) and not overwrite:
        raise RunError(f"{to} is not empty: name another folder, or replace the export there with --overwrite")


def finished_rows(folder: RunFolder, plan: RunPlan) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (shard, row as a dict of the shard's columns) of every image that was made, in plan order."""
    for number, marker in enumerate(folder.markers(plan)):
        if marker is not None:
            path = folder.shard_path(number)
            for row, values in zip(plan.plan.shard(number), shard_rows(path, tuple(COLUMNS)), strict=True):
                if (values["key"], values["label"]) != (row.key, row.label):
                    raise CorruptRunError(f"{path} holds other rows than the plan: augcond check says which")
                if values["status"] == OK:
                    yield number, values


def _write_folders(folder: RunFolder, plan: RunPlan, to: Path, progress: Progress) -> int:
    names = folder_names(plan.classes)
    for name in names:
        (to / name).mkdir()
    count = 0
    with (to / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "class_id", *PROVENANCE])
        for _, values in finished_rows(folder, plan):
            name = f"{index_of(values['key']):06d}-{_safe(values['recipe'])}{Path(values['image']['path']).suffix}"
            relative = f"{names[values['label']]}/{name}"
            (to / relative).write_bytes(values["image"]["bytes"])
            origin = (_cell(values[name]) for name in PROVENANCE)
            writer.writerow([relative, values["label"], plan.classes[values["label"]], *origin])
            count += 1
            progress.advance(1, 0)
    return count


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _write_tars(folder: RunFolder, plan: RunPlan, to: Path, progress: Progress) -> int:
    count = 0
    for shard, rows in groupby(finished_rows(folder, plan), key=itemgetter(0)):
        with tarfile.open(to / f"{shard:05d}.tar", "w") as tar:
            for _, values in rows:
                # WebDataset takes everything after the first dot for the kind of a member.
                key = values["key"].replace(".", "%2E").replace("/", "-")
                origin = {name: values[name] for name in PROVENANCE} | {"class_id": plan.classes[values["label"]]}
                _add(tar, key + Path(values["image"]["path"]).suffix, values["image"]["bytes"])
                _add(tar, f"{key}.cls", str(values["label"]).encode())
                _add(tar, f"{key}.json", json.dumps(origin, ensure_ascii=False).encode())
                count += 1
                progress.advance(1, 0)
    return count


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A TarInfo made by hand holds no time, owner or host: the same run gives the same tar.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


_WRITERS: dict[ExportFormat, Callable[[RunFolder, RunPlan, Path, Progress], int]] = {
    "imagefolder": _write_folders,
    "webdataset": _write_tars,
}


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a folder name per class that is safe on any file system, readable, and different for each class.

    Path separators, control characters, `%` and what Windows forbids are percent-encoded, as are leading and trailing
    dots and spaces. Names that would be longer than 200 bytes are cut; those, and names equal but for case, get their
    label appended.
    """
    names: list[str] = []
    taken: set[str] = set()
    for label, class_id in enumerate(classes):
        last = len(class_id) - 1
        escaped = [
            _escape(c) if _is_unsafe(c) or (c in ". " and place in (0, last)) else c for place, c in enumerate(class_id)
        ]
        # Cut between characters, so that no escape is torn.
        fitting = list(accumulate(len(c.encode()) for c in escaped))
        kept = sum(size <= _LONGEST_NAME for size in fitting)
        name = "".join(escaped[:kept])
        if kept < len(escaped) or not name or name.casefold() in taken:
            name += f"%{label}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(name: str) -> str:
    return "".join(_escape(character) if _is_unsafe(character) else character for character in name)


def _is_unsafe(character: str) -> bool:
    return character in '/\\:*?"<>|%' or ord(character) < 32 or character == "\x7f"


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
