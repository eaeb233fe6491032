"""Export a run's images to layouts that other tools read: class folders, or WebDataset tars."""

from __future__ import annotations

import io
import json
import logging
import re
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from itertools import accumulate, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from augcond.errors import ConfigError, CorruptRunError, ImageError, RunError
from augcond.files import foreign_entries, is_written, replacing_contents, write_parquet
from augcond.planning import index_of
from augcond.progress import NoProgress, Progress
from augcond.store.folder import RunFolder
from augcond.store.marks import marked
from augcond.store.plans import RunPlan
from augcond.store.rejection import rejected_keys
from augcond.store.screened import Screened, given_screened
from augcond.store.shards import COLUMNS, OK, PROVENANCE, shard_features, shard_rows

logger = logging.getLogger(__name__)

ExportFormat = Literal["imagefolder", "webdataset"]

Rows = Iterator[tuple[int, dict[str, Any]]]
"""Number of the shard, and a row of it."""

_METADATA = "metadata.parquet"
_CLASS_FILES = ("classes.json", "classes.txt")
_LONGEST_NAME = 200
_AT_ONCE = 4096
"""Rows of the metadata in a row group."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever follows the dot."""

_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What turns the direction of the text after it: a name would not be read as it is."""

_SPLIT = re.compile(
    r"(?<![^-._ 0-9])(train(ing)?|valid(ation)?|dev|val|test(ing)?|eval(uation)?)(?![^-._ 0-9])|^_(?=_)"
)
"""What `load_dataset("imagefolder")` takes for a split in the name of a folder or file, or does not look into."""


def export_run(
    folder: RunFolder,
    to: Path,
    layout: ExportFormat,
    *,
    overwrite: bool = False,
    mark: bool = True,
    screening: Screened = "kept",
    progress: Progress | None = None,
) -> int:
    """Write every image of the run to `to`, but those that were rejected or screened out, and return their number.

    `imagefolder`: one sub-folder per class that has images, and `metadata.parquet` with every image's label and origin;
    opens in torchvision's ImageFolder and in `datasets.load_dataset("imagefolder", data_dir=...)`. `webdataset`: one
    tar per shard, with image, `.cls` and `.json`. Beside both lie `classes.json`, with number, id, name and folder of
    each class, and `classes.txt`, a line per class in label order, as timm's class maps are.

    Args:
        folder: the run.
        to: the folder to write.
        layout: see above.
        overwrite: replace an earlier export there. What `export_run` did not write is never touched.
        mark: say in each image, in XMP, that it is generated; its pixels stay as they are (`augcond.store.marks`).
        screening: of a run that screens, what it kept, as training takes it; or all.
        progress: is told how many images are written.

    Raises:
        ConfigError: there is no such layout, or `screening` is neither.
        RunError: nothing is done yet, or not screened yet; `to` holds an export and `overwrite` is not given, or files
            that are none; or it lies in the real images.
    """
    if layout not in _WRITERS:
        raise ConfigError(f"--format {layout!r}: expected {' or '.join(_WRITERS)}")
    plan = folder.read_plan()
    _check_place(folder, to, overwrite=overwrite)
    markers = folder.verified_markers(plan)
    done = [marker for marker in markers if marker is not None]
    if not done:
        raise RunError(f"{folder.path} holds no finished shard to export: run augcond generate first")
    if len(done) < len(markers):
        logger.warning(
            "%d of %d shards are not generated yet, and their images are not in this export: run augcond generate, "
            "then export again",
            len(markers) - len(done),
            len(markers),
        )
    progress = progress or NoProgress()
    screened = given_screened(folder, screening)
    progress.start(sum(marker.ok for marker in done) - len(rejected_keys(folder)) - len(screened))
    names = folder_names(plan.classes)
    rows = finished_rows(folder, plan, screened)
    with replacing_contents(to, parents=True) as partial:
        _write_classes(plan, names, partial)
        return _WRITERS[layout](_marked_rows(rows) if mark else rows, plan, partial, progress)


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
    if is_written(to) and not overwrite:
        raise RunError(f"{to} is not empty: name another folder, or replace the export there with --overwrite")


def finished_rows(folder: RunFolder, plan: RunPlan, screened: frozenset[str] = frozenset()) -> Rows:
    """Yield (shard, row as a dict of the shard's columns) of every image that was made, in plan order.

    Those that were rejected are left out, and the `screened` ones.
    """
    left_out = rejected_keys(folder) | screened
    for number, marker in enumerate(folder.markers(plan)):
        if marker is not None:
            path = folder.shard_path(number)
            columns = (*COLUMNS, *plan.further_columns)
            for row, values in zip(plan.plan.shard(number), shard_rows(path, columns), strict=True):
                if (values["key"], values["label"]) != (row.key, row.label):
                    raise CorruptRunError(f"{path} holds other rows than the plan: augcond check says which")
                if values["status"] == OK and values["key"] not in left_out:
                    yield number, values


def _marked_rows(rows: Rows) -> Rows:
    """Yield `rows` with marks in their images."""
    for shard, values in rows:
        try:
            values["image"]["bytes"] = marked(values["image"]["bytes"])
        except ImageError as error:
            raise CorruptRunError(f"the image of {values['key']} {error}: augcond check says which") from error
        yield shard, values


def _write_classes(plan: RunPlan, names: list[str], to: Path) -> None:
    class_names = dict(
        zip(plan.plan.table["label"].to_pylist(), plan.plan.table["class_name"].to_pylist(), strict=True)
    )
    classes = [
        {"label": label, "class_id": class_id, "class_name": class_names.get(label), "folder": names[label]}
        for label, class_id in enumerate(plan.classes)
    ]
    (to / _CLASS_FILES[0]).write_text(json.dumps(classes, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (to / _CLASS_FILES[1]).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_folders(made: Rows, plan: RunPlan, to: Path, progress: Progress) -> int:
    names = folder_names(plan.classes)
    written: set[str] = set()

    def rows() -> Iterator[dict[str, Any]]:
        for _, values in made:
            label, image = values["label"], values.pop("image")
            # torchvision refuses a class folder without images.
            if names[label] not in written:
                (to / names[label]).mkdir()
                written.add(names[label])
            (recipe,) = folder_names((values["recipe"],))
            name = f"{index_of(values['key']):06d}-{recipe}{Path(image['path']).suffix}"
            (to / names[label] / name).write_bytes(image["bytes"])
            yield values | {"file_name": f"{names[label]}/{name}", "class_id": plan.classes[label]}
            progress.advance(1, 0)

    count = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal count
        schema = _metadata_schema(plan)
        entries = rows()
        while group := list(islice(entries, _AT_ONCE)):
            count += len(group)
            yield pa.Table.from_pylist(group, schema)
        if not count:
            yield schema.empty_table()

    with (to / _METADATA).open("wb") as file:
        write_parquet(file, tables())
    _say_order(names, written)
    return count


def _metadata_schema(plan: RunPlan) -> pa.Schema:
    """Return the columns of the metadata, with what `datasets` reads class labels from."""
    from datasets import Features, Value

    of_shard = shard_features(plan.classes, plan.further_columns)
    kept = {name: of_shard[name] for name in ("label", *PROVENANCE, *plan.further_columns)}
    return Features({"file_name": Value("string"), "class_id": Value("string"), **kept}).arrow_schema


def _say_order(names: list[str], written: set[str]) -> None:
    """Say that a reader which numbers the folders by name numbers the classes otherwise than the run."""
    labels = {name: label for label, name in enumerate(names)}
    moved = [name for place, name in enumerate(sorted(written)) if labels[name] != place]
    if moved:
        logger.warning(
            "%d of %d classes, such as %r (label %d), get another number from readers that number the folders by name, "
            "as ImageFolder does: classes.json and metadata.parquet have the labels (docs/guide-own-photos.md)",
            len(moved),
            len(written),
            moved[0],
            labels[moved[0]],
        )


def _write_tars(made: Rows, plan: RunPlan, to: Path, progress: Progress) -> int:
    count = 0
    for shard, rows in groupby(made, key=itemgetter(0)):
        with tarfile.open(to / f"{shard:05d}.tar", "w") as tar:
            for _, values in rows:
                # WebDataset takes everything after the first dot for the kind of a member.
                key = values["key"].replace(".", "%2E").replace("/", "-")
                names = (*PROVENANCE, *plan.further_columns)
                origin = {name: values[name] for name in names} | {"class_id": plan.classes[values["label"]]}
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


_WRITERS: dict[ExportFormat, Callable[[Rows, RunPlan, Path, Progress], int]] = {
    "imagefolder": _write_folders,
    "webdataset": _write_tars,
}


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a folder name per class that is safe on any file system, readable, and different for each class.

    Path separators, characters that control, break lines or turn the direction of text, `%`, `$` and what Windows
    forbids are percent-encoded, as are leading and trailing dots and spaces, and a letter of what Windows takes for a
    device (`con`) or Hugging Face for a split (`train`). Names that would be longer than 200 bytes are cut; those, and
    names equal but for case or for the form of their accents, get their label appended.
    """
    names: list[str] = []
    taken = {_METADATA, *_CLASS_FILES}
    for label, class_id in enumerate(classes):
        last = len(class_id) - 1
        unsafe = {place for place, c in enumerate(class_id) if _is_unsafe(c) or (c in ". " and place in (0, last))}
        # An escape that ends in a digit parts words too.
        seen = "".join(_escape(c)[-1] if place in unsafe else c for place, c in enumerate(class_id))
        unsafe |= {_misread(match) for match in _SPLIT.finditer(seen)}
        unsafe |= {0} if _DEVICE.match(class_id) else set()
        escaped = [_escape(c) if place in unsafe else c for place, c in enumerate(class_id)]
        # Cut between characters, so that no escape is torn.
        fitting = list(accumulate(len(c.encode()) for c in escaped))
        kept = sum(size <= _LONGEST_NAME for size in fitting)
        name = "".join(escaped[:kept])
        if kept < len(escaped) or not name or _alike(name) in taken:
            name += f"%{label}"
        taken.add(_alike(name))
        names.append(name)
    return names


def _alike(name: str) -> str:
    """Return what names have in common that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _misread(match: re.Match[str]) -> int:
    """Return the place of the letter to encode; the second one, for `%65val` would still end in a word `val`."""
    return match.start() if match[0] == "_" else match.start() + 1


def _is_unsafe(character: str) -> bool:
    steers = unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _DIRECTIONS
    return steers or character in '/\\:*?"<>|%$'


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
