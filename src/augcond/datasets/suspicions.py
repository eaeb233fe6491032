"""What the names and counts of classes show, with what to do: ids as prompts, one name twice, captions as labels."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_IDS = (
    (re.compile(r"n\d{8}"), "WordNet ids"),
    (re.compile(r"n\d{8}\W.*"), "names with a WordNet id before them"),
    (re.compile(r"[+-]?\d+(\.\d+)?"), "numbers"),
    (re.compile(r"(0\d*\W|\d+\.).*[^\W\d].*"), "names with a number before them"),
    (
        re.compile(r"(class|label|category|cat|cls|c|id|species|group|cluster)[ \-]?\d+", re.IGNORECASE),
        "numbered classes",
    ),
    (re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{8}[0-9a-f\- ]*"), "hex digits"),
    (re.compile(r"[mQ]\.?\d\w*|/m/\w+|wd:Q\d+"), "ids of a knowledge base"),
    (re.compile(r"[a-z]+[A-Z]\w*|([A-Z][a-z]+){2,}"), "names that are not written as words"),
)
_CAPTION_WORDS = 4
_FEW_CLASSES = 5
_CAPTION_SHARE = 0.9

NAMES_FILE = "name the words in a file (data.class_names)"


def suspicious_names(classes: Sequence[str], class_names: Sequence[str]) -> tuple[str, ...]:
    """Return what is suspicious about the names of classes, each with what to do.

    Args:
        classes: class ids.
        class_names: the words that prompts use, one per class.
    """
    return (*_alike_ids(classes), *_one_name(classes, class_names), *_ids_as_names(class_names))


def captions(classes: Sequence[str], labels: Sequence[int]) -> str | None:
    """Return why labels look like captions or file names; None where they do not.

    Args:
        classes: class ids.
        labels: of each image, index into `classes`.
    """
    several = len(labels) - len(set(labels))
    if len(classes) <= _FEW_CLASSES or several > (1 - _CAPTION_SHARE) * len(classes):
        return None
    words = sorted(len(class_id.split()) for class_id in classes)[len(classes) // 2]
    if words < _CAPTION_WORDS:
        return None
    return f"nearly each of the {len(labels)} images has a label of its own, such as {classes[0]!r}: these are captions"


def lonely(classes: Sequence[str], labels: Iterable[int]) -> Iterator[str]:
    """Yield that there is but one class, or one image a class."""
    counts = [0] * len(classes)
    for label in labels:
        counts[label] += 1
    filled = [count for count in counts if count]
    if len(filled) == 1:
        yield f"there are images of one class only, {classes[counts.index(filled[0])]!r}: a classifier needs two"
    elif len(filled) > _FEW_CLASSES and sum(count == 1 for count in filled) >= _CAPTION_SHARE * len(filled):
        yield (
            f"nearly each of {len(filled)} classes has one image: if the labels are captions or file names, name "
            "what holds the classes"
        )


def comparable(name: str) -> str:
    """Return `name` in the form in which names are compared (NFC): Macs write `é` as two characters, Linux as one."""
    return unicodedata.normalize("NFC", name)


def spelled_out(name: str) -> str:
    """Return `name` with every character beyond ASCII as its code, to tell apart what looks alike."""
    return name.encode("ascii", "backslashreplace").decode()


def _alike_ids(classes: Sequence[str]) -> Iterator[str]:
    forms: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("written with other characters", lambda name: " ".join(unicodedata.normalize("NFKC", name).split())),
        (
            "but for case, blanks and signs",
            lambda name: re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold(),
        ),
    )
    said: set[str] = set()
    for how, form in forms:
        alike: dict[str, list[str]] = defaultdict(list)
        for class_id in classes:
            alike[form(class_id)].append(class_id)
        for group in (names for key, names in alike.items() if key and len(names) > 1 and not said.issuperset(names)):
            said.update(group)
            shown = ", ".join(repr(name) if name.isascii() else f"{name!r} ({spelled_out(name)})" for name in group[:4])
            yield f"{len(group)} classes have the same name, {how}: {shown}; merge them, or rename one"


def _one_name(classes: Sequence[str], class_names: Sequence[str]) -> Iterator[str]:
    named: dict[str, list[str]] = defaultdict(list)
    for class_id, name in zip(classes, class_names, strict=True):
        named[comparable(name).casefold()].append(class_id)
    for name, ids in named.items():
        if len(ids) > 1:
            yield f"{len(ids)} classes have one name, {name!r} ({', '.join(ids[:4])}), so one prompt: {NAMES_FILE}"


def _ids_as_names(class_names: Sequence[str]) -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        kind = next((kind for pattern, kind in _IDS if pattern.fullmatch(name)), None)
        if kind is not None:
            found[kind].append(name)
    for kind, names in found.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"prompts would use {kind} ({', '.join(names[:3])}{more}): {NAMES_FILE}"
