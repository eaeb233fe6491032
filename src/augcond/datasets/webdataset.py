"""WebDataset shards: tar files in which the members of one sample share a name and differ in extension."""

from __future__ import annotations

import errno
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from augcond.config.data import DataConfig, WebDatasetConfig
from augcond.datasets.base import DatasetReader, Listing, RejectedFile, Role, path_of
from augcond.datasets.class_names import names_for
from augcond.datasets.formats import IMAGE_SUFFIXES
from augcond.datasets.readers import MOST_BYTES
from augcond.datasets.suspicions import captions
from augcond.datasets.text import class_text, label_order, without_label
from augcond.errors import DatasetError

_BLOCK = 512
_CHUNK = 1 << 20
_MOST_SHARDS = 10**6
_MOST_LABEL_BYTES = 1 << 24
_MOST_HEADER_BYTES = 1 << 20
"""Of what a tar says of one member, in headers of its own; names are a hundred bytes."""
_LABEL_KINDS = ("cls", "json", "txt")
_JSON_KEYS = ("label", "cls", "class", "class_id", "class_name")
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""WebDataset's own rule: a sample's name ends at the first dot of the file's name."""

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")

_Place = tuple[int, int, int]
"""Number of the shard, offset in bytes, size in bytes."""


@dataclass(frozen=True, slots=True)
class TarReader:
    """Reads members of tar files by their offset.

    Attributes:
        root: the folder that shard names are relative to.
        shards: paths of the tar files, relative to `root`.
        places: where the image behind each key lies.
    """

    root: Path
    shards: tuple[str, ...] = field(compare=False, repr=False)
    places: dict[str, _Place] = field(compare=False, repr=False)

    def read(self, key: str) -> bytes:
        """Return the bytes of one member.

        Raises:
            OSError: the shard cannot be read, or has become shorter.
        """
        if key not in self.places:
            raise FileNotFoundError(f"no member {key}")
        shard, offset, size = self.places[key]
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, "a member of more than 1 GiB")
        with (self.root / self.shards[shard]).open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) != size:
            raise OSError(errno.EIO, "the shard has become shorter")
        return data

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return size of the member and time of change of its shard in ns; None where that cannot be looked at."""
        shard, _, size = self.places[key]
        try:
            return size, (self.root / self.shards[shard]).stat().st_mtime_ns
        except OSError:
            return None


@dataclass(frozen=True, slots=True)
class _Sample:
    """The members of one sample: where each extension lies."""

    name: str
    shard: int
    members: dict[str, tuple[int, int]]


def list_webdataset(path: Path, config: WebDatasetConfig, class_names_file: Path | None = None) -> Listing:
    """Return the images of all shards; labels are read, images are not.

    Keys are `shard.tar/name.extension`. Labels are class ids: in numeric order where all are integers, else sorted by
    code points. Samples without image or label are rejected.

    Args:
        path: a tar file, a folder of them, or a pattern such as `train-{000000..000146}.tar` or `train-*.tar`.
        config: which members are image and label.
        class_names_file: see `read_class_names`.

    Raises:
        DatasetError: there are no shards, one is cut off or damaged, or it is not clear what is image or label.
    """
    root, shards = _find_shards(path)
    samples: list[_Sample] = []
    ignored: list[str] = []
    for number, shard in enumerate(shards):
        found, other = _scan(root / shard, number)
        samples += found
        ignored += (f"{shard}/{name}" for name in other)
    if not samples:
        raise DatasetError(f"no samples in {path}: expected members such as 000000.jpg and 000000.cls")
    label = _label_kind(config.label, samples[0], root / shards[0])
    places: dict[str, _Place] = {}
    texts: list[str] = []
    rejected: list[RejectedFile] = []
    with _Shards(root, shards) as opened:
        read = [label.read(sample, opened) for sample in samples]
    unlabelled = without_label({text for text, _ in read if text is not None})
    for sample, (text, reason) in zip(samples, read, strict=True):
        kind = _image_kind(config.image, sample, shards)
        key = f"{shards[sample.shard]}/{sample.name}.{kind or '?'}"
        if kind is None or text is None or text in unlabelled:
            why = "no image" if kind is None else f"no label: {text}" if text else reason
            rejected.append(RejectedFile(key, -1, why))
        else:
            places[key] = (sample.shard, *sample.members[kind])
            texts.append(text)
    classes = label_order(texts)
    index = {class_id: place for place, class_id in enumerate(classes)}
    caption = captions(classes, [index[text] for text in texts]) if config.label is None else None
    if caption is not None:
        raise DatasetError(f"{path}, .{label.kind}: {caption}; set data.webdataset.label to what holds the classes")
    return Listing(
        classes=classes,
        class_names=names_for(classes, class_names_file),
        keys=tuple(places),
        labels=tuple(index[text] for text in texts),
        reader=TarReader(root, shards, places),
        ignored=tuple(ignored),
        rejected=tuple(rejected),
    )


def _find_shards(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the shards, and their names in it, sorted."""
    if path.is_dir():
        root, names = path, sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*.tar"))
    elif path.is_file():
        root, names = path.parent, [path.name]
    else:
        root = path.parent
        if prod(max(0, int(last) - int(first) + 1) for first, last in _RANGE.findall(path.name)) > _MOST_SHARDS:
            raise DatasetError(f"{path} stands for more than {_MOST_SHARDS:,} shards: name them by *")
        names = sorted(name for pattern in _expand(path.name) for name in _matches(root, pattern))
    if not names:
        raise DatasetError(
            f"no shards at {path}: expected a .tar file, a folder of them, or a pattern such as train-{{000..146}}.tar"
        )
    if packed := [name for name in names if not name.endswith(".tar")]:
        raise DatasetError(f"{root / packed[0]}: members are read by their offset, so unpack it to a plain .tar first")
    return root, tuple(names)


def _expand(pattern: str) -> list[str]:
    """Return the names that ranges such as {000..146} stand for."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [name for number in numbers for name in _expand(pattern[: match.start()] + number + pattern[match.end() :])]


def _matches(root: Path, pattern: str) -> list[str]:
    if any(sign in pattern for sign in "*?["):
        return [entry.name for entry in root.glob(pattern)]
    if not (root / pattern).is_file():
        raise DatasetError(f"no shard at {root / pattern}")
    return [pattern]


def _scan(path: Path, number: int) -> tuple[list[_Sample], list[str]]:
    """Return the samples of one shard in their order, and the names of members that belong to none.

    Raises:
        DatasetError: the shard is cut off or damaged, or holds a member twice.
    """
    samples: dict[str, _Sample] = {}
    ignored: list[str] = []
    start: int | None = 0
    while start is not None:
        start = _scan_archive(path, number, start, samples, ignored)
    return list(samples.values()), ignored


def _scan_archive(path: Path, number: int, start: int, samples: dict[str, _Sample], ignored: list[str]) -> int | None:
    """Take in the members of the archive at `start`; return where another one begins, as in tars joined by `cat`."""
    end = start
    try:
        with path.open("rb") as stream:
            # tarfile counts offsets from where the stream stands.
            stream.seek(start)
            with tarfile.open(fileobj=_Headers(stream), mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    if member.size < 0:
                        raise tarfile.ReadError(f"a member of {member.size:,} bytes")
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if member.issparse():
                        ignored.append(member.name)
                    elif member.isfile():
                        _take_in(path, member, number, samples, ignored)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise DatasetError(_cut_off(path, len(samples), str(error))) from error
    # A shard that was cut between two members, or damaged in a header, reads without complaint up to there.
    with path.open("rb") as stream:
        stream.seek(end)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise DatasetError(_cut_off(path, len(samples), "no end-of-archive mark"))
        while chunk := stream.read(_CHUNK):
            zeros = len(chunk) - len(chunk.lstrip(b"\0"))
            if zeros < len(chunk):
                return stream.tell() - len(chunk) + zeros
    return None


class _Headers:
    """A tar file as its headers are read from it, none of which may be so large that it fills the memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.tell, self.seek = stream.tell, stream.seek
        self._read = stream.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._read(size)


def _take_in(path: Path, member: tarfile.TarInfo, number: int, samples: dict[str, _Sample], ignored: list[str]) -> None:
    match = _MEMBER.fullmatch(member.name)
    if match is None:
        ignored.append(member.name)
        return
    name, extension = match.group(1), match.group(2).lower()
    sample = samples.setdefault(name, _Sample(name, number, {}))
    if extension in sample.members:
        raise DatasetError(f"{path} holds {member.name} twice: write the shard anew")
    sample.members[extension] = (member.offset_data, member.size)


def _cut_off(path: Path, samples: int, reason: str) -> str:
    return (
        f"{path} is cut off or damaged after {samples} samples ({path.stat().st_size:,} bytes; {reason}): "
        "copy it anew, or take the shard away"
    )


class _Shards:
    """Open shards, one at a time: samples come shard by shard."""

    def __init__(self, root: Path, shards: tuple[str, ...]) -> None:
        self._paths = [root / shard for shard in shards]
        self._number = -1
        self._stream: Any = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def read(self, shard: int, place: tuple[int, int]) -> bytes:
        if shard != self._number:
            if self._stream is not None:
                self._stream.close()
            self._stream, self._number = self._paths[shard].open("rb"), shard
        self._stream.seek(place[0])
        return bytes(self._stream.read(place[1]))


def _image_kind(wanted: str | None, sample: _Sample, shards: tuple[str, ...]) -> str | None:
    """Return the extension of the sample's image; None where it has none."""
    if wanted is not None:
        kind = wanted.lower().lstrip(".")
        return kind if kind in sample.members else None
    kinds = [kind for kind in sample.members if f".{kind}" in IMAGE_SUFFIXES]
    if len(kinds) > 1:
        raise DatasetError(
            f"sample {sample.name} of {shards[sample.shard]} has several images ({', '.join(kinds)}): "
            "set data.webdataset.image to the extension of the one to use"
        )
    return kinds[0] if kinds else None


@dataclass(frozen=True, slots=True)
class _Label:
    """Where labels stand: a member's extension and, in JSON, the keys that may hold them."""

    kind: str
    keys: tuple[str, ...] = ()

    def read(self, sample: _Sample, shards: _Shards) -> tuple[str | None, str]:
        """Return the class id of a sample; None, and the reason, where it has none."""
        if self.kind not in sample.members:
            return None, f"no label: no .{self.kind}"
        place = sample.members[self.kind]
        if place[1] > _MOST_LABEL_BYTES:
            return None, f"no label: .{self.kind} has more than {_MOST_LABEL_BYTES:,} bytes"
        data = shards.read(sample.shard, place)
        try:
            text = data.decode("utf-8").strip()
            if self.kind == "json":
                values = json.loads(text)
                text = next(filter(None, map(class_text, self._values(values))), "")
        except (ValueError, RecursionError):
            return None, f"no label: .{self.kind} cannot be read"
        return text or None, f"no label in .{self.kind}"

    def _values(self, values: Any) -> Iterator[Any]:
        for key in self.keys if isinstance(values, dict) else ():
            yield values.get(key)


def _label_kind(wanted: str | None, first: _Sample, path: Path) -> _Label:
    if wanted is not None:
        kind, _, key = wanted.lower().lstrip(".").partition(":")
        # Keys of JSON differ by case.
        return _Label(kind, (wanted.partition(":")[2],) if key else _JSON_KEYS)
    for kind in _LABEL_KINDS:
        if kind in first.members:
            return _Label(kind, _JSON_KEYS)
    raise DatasetError(
        f"the first sample of {path}, {first.name}, has no label: expected a .cls, .json or .txt beside "
        f"{', '.join(f'.{kind}' for kind in first.members)}, or set data.webdataset.label"
    )


class WebDatasetReader(DatasetReader):
    """`webdataset`: tar files of samples."""

    takes = DatasetReader.takes | {"webdataset"}

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images of the shards at `data.path`."""
        return list_webdataset(path_of(config), config.webdataset or WebDatasetConfig())


READER = WebDatasetReader()
