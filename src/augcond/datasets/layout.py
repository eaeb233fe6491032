"""What the shape of a photo folder tells: splits, wrappers, masks and thumbnails that are no classes.

Names differ from tool to tool, so shape comes first: folders that repeat inside others, files named after photos, one
folder around all. A word such as `train` or `masks` decides only between shapes that can mean two things.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from augcond.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_SYSTEM = {
    "@eadir": "thumbnails that a Synology NAS makes",
    "__macosx": "what a Mac's zip keeps beside the files",
    "$recycle.bin": "deleted files of Windows",
    "recycler": "deleted files of Windows",
    "#recycle": "deleted files of a NAS",
    "@recycle": "deleted files of a NAS",
    "#snapshot": "snapshots of a NAS",
    "@recently-snapshot": "snapshots of a NAS",
    "system volume information": "a system folder of Windows",
    "lost+found": "a system folder of Linux",
    "network trash folder": "deleted files of a Mac",
    "temporary items": "a system folder of a Mac",
    "__pycache__": "Python's cache",
}
_SPLITS = re.compile(r"train|valid|test|eval|holdout|(tr|val|ts|tst|dev|fold|split|held)$")
_THUMBNAILS = re.compile(r"thumb|preview|small|resized|cache|low.?res", re.IGNORECASE)
_ANNOTATIONS = re.compile(
    r"(bbox|seg(mentation)?s?|semantic|instance|pixel)?[\W_]*"
    r"(masks?|labels?|annot(ation)?s?|gt|ground[\W_]*truths?|seg(mentation)?s?|mats?|trimaps?|xmls?|bboxe?s?)"
    r"([\W_]*(class|object|images?|files?|xmls?|json|txt|mats?|tr|ts|train|val|test))?",
    re.IGNORECASE,
)
_NOTES = frozenset({".txt", ".xml", ".json", ".csv", ".mat", ".npy", ".npz", ".yaml", ".yml"})
_PICTURES = re.compile(r".*(image|img|photo|picture|rgb|input|frame|raw|original|data)s?(tr|ts)?", re.IGNORECASE)
_UNSORTED = re.compile(
    r"_.*|.*\b(un|not[ _-]?)(label|sort|classif|categor|annotat|assign|tag).*|"
    r"(to[ _-]?do|to[ _-]?sort|inbox)|new folder.*|"
    r"(tmp|temp|trash|backups?|bak|deleted|reject(ed|s)?|duplicates?|discard(ed)?)",
    re.IGNORECASE,
)
_COPY = re.compile(r"(.+?)( - copy( \(\d+\))?| copy( \d+)?| \(\d+\)|[ _-](old|backup|bak))|copy of (.+)", re.IGNORECASE)

_MOST = 0.8
"""The share of names that must agree to take files for what belongs to others."""
_SOME = 0.2
"""The share of a class's images that must be called alike to be spoken of."""


@dataclass(slots=True)
class ClassContent:
    """What lies in one class folder, as paths relative to the root, each list sorted."""

    keys: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    def only_nested(self) -> bool:
        """Tell whether there are images and all of them lie in folders inside the class folder."""
        return bool(self.keys) and all(key.count("/") > 1 for key in self.keys)

    def inner(self) -> set[str]:
        """Return the names of the folders in the class folder that hold images."""
        return {key.split("/", 2)[1] for key in self.keys if key.count("/") > 1}

    def stems(self) -> set[str]:
        """Return the names of the images without their suffix."""
        # A path object per image would take most of the time of listing a million.
        return {key.rpartition("/")[2].rpartition(".")[0] for key in self.keys}

    def kinds(self) -> set[str]:
        """Return the suffixes of the images."""
        return {key.rpartition(".")[2].lower() for key in self.keys}


def why_skipped(name: str, images_around: Sequence[set[str]]) -> str | None:
    """Return why a folder called `name` holds no photos of a class; None where it may.

    Args:
        name: of the folder.
        images_around: names of the images in the folder that it lies in, and in that one's parent.
    """
    if name.startswith("."):
        return "hidden"
    known = _SYSTEM.get(name.lower())
    if known is not None:
        return known
    if any(name in images for images in images_around):
        return "a folder called like the image beside it: thumbnails or other things made of it"
    return None


def are_thumbnails(name: str, images: set[str], above: set[str]) -> bool:
    """Tell whether a folder called `name` with `images` holds smaller copies of those in the folder `above`."""
    return bool(images) and bool(_THUMBNAILS.search(name)) and _covered(images, above)


def check_layout(root: Path, contents: Mapping[str, ClassContent]) -> list[str]:
    """Return what looks wrong with class folders, each with what to do.

    Args:
        root: the folder that holds them, for messages.
        contents: what lies in each.

    Raises:
        DatasetError: they are certainly no classes; it says which folder to give instead.
    """
    filled = {name: content for name, content in contents.items() if content.keys}
    _refuse_splits(root, filled)
    _refuse_wrapper(root, filled)
    _refuse_annotations(root, contents)
    return [
        *_flat_splits(filled),
        *_repeated_folders(filled),
        *_same_stems(filled),
        *_derived(filled),
        *_odd_names(filled),
    ]


def _is_split(name: str) -> bool:
    return any(_SPLITS.match(word) for word in re.split(r"[\W_\d]+", name.lower()))


def _covered(names: set[str], others: set[str]) -> bool:
    return len(names & others) >= _MOST * len(names)


def _refuse_splits(root: Path, filled: Mapping[str, ClassContent]) -> None:
    inner = {name: content.inner() for name, content in filled.items()}
    times = Counter(folder.lower() for folders in inner.values() for folder in folders)
    splits = [name for name in filled if _is_split(name) and filled[name].only_nested()]
    # The same folders in several, or test images that lie flat beside a `train` with folders in it.
    repeating = [name for name in splits if any(times[folder.lower()] > 1 for folder in inner[name])]
    beside_flat = [name for name in splits if len(inner[name]) > 1 and any(map(_is_split, filled.keys() - {name}))]
    found = repeating or beside_flat or (splits if len(splits) == len(filled) else [])
    if found:
        raise DatasetError(
            f"the sub-folders of {root} look like splits, not classes ({', '.join(filled)}): "
            f"give one of them, such as {root / _to_learn_from(found)}{_UNLESS}"
        )
    parted = {name: sorted(filter(_is_split, folders)) for name, folders in inner.items()}
    parted = {name: folders for name, folders in parted.items() if folders}
    if any(len(folders) > 1 for folders in parted.values()) or 1 < len(parted) >= len(filled) / 2:
        name, folders = max(parted.items(), key=lambda item: len(item[1]))
        shown = ", ".join(f"{name}/{folder}" for folder in folders)
        inside = root / name / _to_learn_from(folders)
        deep = any(key.startswith(f"{name}/{folders[0]}/") and key.count("/") > 2 for key in filled[name].keys)
        todo = f"give one of them, such as {inside}" if deep else "move each split into a folder of its own"
        raise DatasetError(
            f"the class folders of {root} hold splits ({shown}), whose images would be mixed: {todo}{_UNLESS}"
        )


_UNLESS = " (if these are classes after all, list the images in a file: data.source: list)"


def _to_learn_from(splits: Sequence[str]) -> str:
    return min(splits, key=lambda name: (not name.lower().startswith("tr"), name))


def _refuse_wrapper(root: Path, filled: Mapping[str, ClassContent]) -> None:
    if len(filled) != 1:
        return
    folders = {key.rpartition("/")[0] for key in next(iter(filled.values())).keys}
    around = posixpath.commonpath(folders)
    if around not in folders:
        inside = sorted({folder[len(around) + 1 :].split("/")[0] for folder in folders})
        raise DatasetError(
            f"all images of {root} lie in folders inside {around} ({some(inside)}), which would be one class: give "
            f"{root / around}{_UNLESS}"
        )


def _refuse_annotations(root: Path, contents: Mapping[str, ClassContent]) -> None:
    stems = {name: content.stems() for name, content in contents.items()}
    for name, content in contents.items():
        others = [other for other in contents if other != name and contents[other].keys]
        named = _ANNOTATIONS.fullmatch(name) is not None
        if not others or (content.keys and not named):
            continue
        notes = {PurePosixPath(path).stem for path in content.ignored if PurePosixPath(path).suffix.lower() in _NOTES}
        about = content.stems() or notes
        of = next((other for other in others if about and _covered(about, stems[other])), None)
        if content.keys and (
            of is None or not (_PICTURES.fullmatch(of) or content.kinds().isdisjoint(contents[of].kinds()))
        ):
            continue  # `mask` and `no_mask` may both have a 1.jpg
        if of is not None or named:
            what = f"files about the images in {of}" if of else "files about images, not images"
            raise DatasetError(
                f"{name} in {root} holds {what}, so it is no class: these look like images with masks, boxes or labels "
                "beside them. Sort the images into one folder per class, or list them with their classes in a file "
                "(data.source: list)"
            )


def _flat_splits(filled: Mapping[str, ClassContent]) -> Iterator[str]:
    if len(filled) > 1 and all(map(_is_split, filled)):
        yield (
            f"the classes are called like splits ({some(sorted(filled))}), and hold no folders of classes: if they are "
            "splits, sort the images of each into one folder per class, or list them with their classes in a file "
            "(data.source: list)"
        )


def _repeated_folders(filled: Mapping[str, ClassContent]) -> Iterator[str]:
    holders: dict[str, list[str]] = defaultdict(list)
    for name, content in filled.items():
        for folder in content.inner():
            holders[folder.lower()].append(name)
    repeated = sorted(folder for folder, names in holders.items() if len(names) > 1)
    if repeated:
        names = sorted({name for folder in repeated for name in holders[folder]})
        yield (
            f"the same folders ({some(repeated)}) lie in {len(names)} classes ({some(names)}): if these are the "
            "classes, give the folder that holds them, or list the images in a file (data.source: list)"
        )


def _same_stems(filled: Mapping[str, ClassContent]) -> Iterator[str]:
    """Photos and their masks: two folders of the same file names, each with a suffix of its own."""
    by_stems: dict[frozenset[str], str] = {}
    for name, content in filled.items():
        stems = frozenset(content.stems())
        other = by_stems.setdefault(stems, name)
        if other != name and len(stems) > 2 and content.kinds().isdisjoint(filled[other].kinds()):
            yield (
                f"{name} and {other} hold files of the same {len(stems)} names, of other kinds: if the ones are "
                "masks or depth maps of the others, take them out"
            )


def _derived(filled: Mapping[str, ClassContent]) -> Iterator[str]:
    """Files named after others: masks, thumbnails, edited or augmented copies."""
    copies: list[str] = []
    named: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for content in filled.values():
        folders: dict[str, Counter[str]] = defaultdict(Counter)
        for key in content.keys:
            folder, _, file = key.rpartition("/")
            folders[folder][file.rpartition(".")[0]] += 1
        copies += (folder for folder in folders if _is_copied(folder, folders))
        for ending, found in _endings(folders).items():
            if len(found) > 2 and len(found) >= _SOME * len(content.keys):
                named[ending] += len(found)
                examples.setdefault(ending, found[0])
    if copies:
        yield (
            f"{some(copies)}: images called like those in the folder around or beside it; if they are thumbnails, "
            "masks or copies of these, take them out"
        )
    for ending, count in named.items():
        yield (
            f"{count} images are called like another one of their class, with another "
            f"{'ending ' + repr(ending) if ending else 'suffix'} (such as {examples[ending]}): if they are masks, "
            "thumbnails or copies, take them out"
        )


def _is_copied(folder: str, folders: Mapping[str, Counter[str]]) -> bool:
    """Tell whether the images of `folder` are called like those of the folder around it, or masks like those beside."""
    around, _, name = folder.rpartition("/")
    others = [around]
    if _ANNOTATIONS.fullmatch(name) or _THUMBNAILS.search(name):
        others += (other for other in folders if other != folder and other.rpartition("/")[0] == around)
    own = set(folders[folder])
    return len(own) > 1 and any(_covered(own, set(folders[other])) for other in others if other in folders)


def _endings(folders: Mapping[str, Counter[str]]) -> dict[str, list[str]]:
    """Return the images that are called like another one in their folder with something behind it, by that."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder, stems in folders.items():
        for stem, count in stems.items():
            found[""] += [f"{folder}/{stem}.*"] * (count - 1)
            for match in re.finditer(r"[^0-9A-Za-z]", stem):
                if stem[: match.start()] in stems:
                    # A thumbnail's size is another for every photo: `-150x100`.
                    found[re.sub(r"\d+x\d+", "0x0", stem[match.start() :])].append(f"{folder}/{stem}")
                    break
    return found


def _odd_names(filled: Mapping[str, ClassContent]) -> Iterator[str]:
    lower = {name.lower() for name in filled}
    for name, content in filled.items():
        match = _COPY.fullmatch(name)
        original = match and (match.group(1) or match.group(6))
        if original and original.lower() in lower:
            yield f"{name} looks like a copy of the class {original}: merge the two, or take it out"
        elif _UNSORTED.fullmatch(name):
            yield (
                f"{name} ({len(content.keys)} images) is taken for a class, and looks like a folder of images without "
                "one: take it out, or rename it"
            )


def some(names: Sequence[str]) -> str:
    """Return the first of `names` for a message, and how many there are more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
