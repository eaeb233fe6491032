"""Image folders: one sub-folder per class."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from augcond.datasets.base import DatasetReader, Listing, RejectedFile, Role, Skipped, path_of
from augcond.datasets.class_names import names_for
from augcond.datasets.formats import IMAGE_SUFFIXES, describe_ignored
from augcond.datasets.layout import ClassContent, are_thumbnails, check_layout, some, why_skipped
from augcond.datasets.readers import FileReader
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig


_Identity = tuple[int, int]
"""Device and inode: what a folder is, whatever path led to it."""


def list_folder(root: Path, class_names_file: Path | None = None) -> Listing:
    """Return every image below the class folders of `root`; no image is opened.

    Each sub-folder of `root` is a class, its name the class id; classes are sorted by name (code points), and so are
    the images of a class by path. Folders inside a class folder belong to that class. Images are told by their suffix
    (`IMAGE_SUFFIXES`, in any case). Names that start with a dot are skipped, as are folders of systems (`@eaDir`,
    `__MACOSX`) and of thumbnails; other files are listed in `ignored`. A class folder without images is a class with
    none. Links are followed, each folder once per class, and never up into a folder that encloses them.

    Args:
        root: the folder of class folders.
        class_names_file: see `read_class_names`; without it, prompts use the class ids (`_` as a space).

    Raises:
        DatasetError: `root` holds no images, or images outside class folders, or folders that are certainly no classes
            (see `check_layout`), or a folder cannot be read or named.
    """
    if not root.is_dir():
        hint = "; for a file that lists images, set data.source: list" if root.is_file() else ""
        raise DatasetError(f"no folder at {root}{hint}")
    top = _scan(root)
    stray = [name for name in top.files if _is_image(name)]
    if stray:
        raise DatasetError(
            f"{len(stray)} images lie directly in {root}, such as {_printable(min(stray))}: expected one sub-folder "
            "per class, with the images inside; move each into the sub-folder of its class"
        )
    skipped = [Skipped(_printable(name), reason) for name in top.folders if (reason := why_skipped(name, ()))]
    classes = sorted(set(top.folders) - {entry.path for entry in skipped})
    for name in classes:
        if not _is_utf8(name):
            raise DatasetError(f"the name of class folder {_printable(name)} in {root} is not UTF-8: rename the folder")
    contents = {name: _list_class(root, name, skipped) for name in classes}
    if not any(found.keys or found.rejected for found in contents.values()):
        others = describe_ignored([*top.files, *(name for found in contents.values() for name in found.ignored)])
        raise DatasetError(
            f"no images found in {root}: expected one sub-folder per class, each with .jpg, .png or .webp files"
            + (f"; there are others, which are not read: {others}" if others else "")
            + (f"; skipped: {some([f'{entry.path} ({entry.reason})' for entry in skipped])}" if skipped else "")
        )
    warnings = check_layout(root, contents)
    return Listing(
        classes=tuple(classes),
        class_names=names_for(classes, class_names_file),
        keys=tuple(key for found in contents.values() for key in found.keys),
        labels=tuple(label for label, found in enumerate(contents.values()) for _ in found.keys),
        reader=FileReader(root),
        ignored=(
            *sorted(_printable(name) for name in top.files),
            *(name for found in contents.values() for name in found.ignored),
        ),
        skipped=tuple(sorted(skipped, key=lambda entry: entry.path)),
        warnings=tuple(warnings),
        rejected=tuple(
            RejectedFile(_printable(path), label, "file name is not UTF-8")
            for label, found in enumerate(contents.values())
            for path in found.rejected
        ),
    )


@dataclass(slots=True)
class _Entries:
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def _list_class(root: Path, class_id: str, skipped: list[Skipped]) -> ClassContent:
    content = ClassContent()
    # A link up to an enclosing folder would bring in the other classes, or the whole disk.
    seen = {_identity(folder) for folder in (root, *root.resolve().parents)}
    pending: list[tuple[str, tuple[set[str], ...]]] = [(class_id, ())]
    while pending:
        relative, around = pending.pop()
        folder = root / relative
        identity = _identity(folder)
        if identity in seen:
            continue
        seen.add(identity)
        entries = _scan(folder)
        images = {name for name in entries.files if _is_image(name)}
        if around and are_thumbnails(relative.rpartition("/")[2], images, around[0]):
            skipped.append(
                Skipped(_printable(relative), "images called like those in the folder around it: thumbnails")
            )
            continue
        for name in sorted(entries.folders, reverse=True):
            reason = why_skipped(name, (images, *around[:1]))
            if reason is None:
                pending.append((f"{relative}/{name}", (images, *around[:1])))
            else:
                skipped.append(Skipped(_printable(f"{relative}/{name}"), reason))
        for name in entries.files:
            path = f"{relative}/{name}"
            if name not in images:
                content.ignored.append(_printable(path))
            elif _is_utf8(path):
                content.keys.append(path)
            else:
                content.rejected.append(path)
    content.keys.sort()
    content.ignored.sort()
    content.rejected.sort()
    return content


def _scan(folder: Path) -> _Entries:
    """Return the entries of `folder` but hidden files; a link is what it points to, and a dangling link is a file."""
    entries = _Entries()
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if _leads_to_folder(entry):
                    entries.folders.append(entry.name)
                elif not entry.name.startswith("."):
                    entries.files.append(entry.name)
    except OSError as error:
        raise DatasetError(f"folder {_printable(str(folder))} cannot be read: {error.strerror}") from error
    return entries


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link in a circle, say: listed as a file, and rejected with the reason when it is read


def _identity(folder: Path) -> _Identity:
    result = folder.stat()
    return result.st_dev, result.st_ino


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - a Path per file would take longer than the listing


def _is_utf8(name: str) -> bool:
    """Tell whether `name` can be stored; Python decodes other bytes in file names to lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class FolderReader(DatasetReader):
    """`folder`: a folder of class folders."""

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images below `data.path`."""
        return list_folder(path_of(config))


READER = FolderReader()
