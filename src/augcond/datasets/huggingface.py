"""Hugging Face datasets: by hub id, or in one of their formats on disk."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from augcond.config.data import DataConfig, HuggingFaceConfig
from augcond.datasets.base import DatasetReader, HeldOut, Listing, RejectedFile, Role
from augcond.datasets.class_names import names_for
from augcond.datasets.formats import IMAGE_SUFFIXES
from augcond.datasets.readers import read_file
from augcond.datasets.text import class_text, label_order, without_label
from augcond.errors import ConfigError, DatasetError

IMAGE_COLUMNS = ("image", "img", "picture", "photo")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json"}


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """Where one split of a dataset comes from.

    Attributes:
        id: hub id; None where `path` is given.
        path: a folder or file; None where `id` is given.
        config: the dataset's configuration, where it has several.
        revision: commit hash, tag or branch on the hub.
        split: name of the split.
    """

    id: str | None
    path: Path | None
    config: str | None
    revision: str | None
    split: str

    def __str__(self) -> str:
        """Return how messages call it."""
        return f"{self.id or self.path} (split {self.split!r})"


@dataclass(frozen=True, slots=True)
class HuggingFaceReader:
    """Reads the images of one split as they were stored; each process opens the split once.

    Attributes:
        source: the split.
        column: the column of the images.
    """

    source: HuggingFaceSource
    column: str

    def read(self, key: str) -> bytes:
        """Return the encoded image of the row that `key` names.

        Raises:
            OSError: the row has no image, or the file that it points to cannot be read.
        """
        return stored_image(_images(self.source, self.column)[int(key.rpartition("/")[2])][self.column])

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return the number of rows and the newest time of change of the split's files, in ns."""
        return _stat(self.source, self.column)


def list_huggingface(
    path: Path | None, config: HuggingFaceConfig, split: str, class_names_file: Path | None = None
) -> Listing:
    """Return the images of one split; no image is decoded, and none is encoded anew when it is read.

    Keys are `split/row number`. Class ids are the names of a ClassLabel column, else the distinct values of the label
    column: in numeric order where all are integers, else sorted by code points. Rows without label are rejected.

    Args:
        path: a folder or file; None where `config` has a hub id.
        config: hub id and columns.
        split: name of the split.
        class_names_file: see `read_class_names`.

    Raises:
        DatasetError: the dataset cannot be loaded, or no column fits.
        ConfigError: the config names a column that is not there.
    """
    source = HuggingFaceSource(None if path else config.id, path, config.config, config.revision, split)
    image, classes, texts = labelled_rows(_open(source), config, source)
    index = {class_id: place for place, class_id in enumerate(classes)}
    keys = [f"{split}/{row:08d}" for row in range(len(texts))]
    listed = [(key, index[text]) for key, text in zip(keys, texts, strict=True) if text is not None]
    if not listed:
        raise DatasetError(f"no labelled images in {source}")
    return Listing(
        classes=classes,
        class_names=names_for(classes, class_names_file),
        keys=tuple(key for key, _ in listed),
        labels=tuple(place for _, place in listed),
        reader=HuggingFaceReader(source, image),
        rejected=tuple(
            RejectedFile(key, -1, "no label") for key, text in zip(keys, texts, strict=True) if text is None
        ),
    )


def labelled_rows(
    rows: Any, config: HuggingFaceConfig, source: object
) -> tuple[str, tuple[str, ...], list[str | None]]:
    """Return the column of the images, the class ids in label order, and the class id of each row, None without.

    Args:
        rows: a `datasets.Dataset`.
        config: names the columns, where it does.
        source: how messages call it.

    Raises:
        DatasetError: no column fits.
        ConfigError: the config names a column that is not there.
    """
    image = _image_column(source, rows.features, config.image)
    label = _label_column(source, rows.features, config.label)
    values = rows.select_columns([label]).with_format("arrow")[:][label].to_pylist()
    return image, *_classes(source, rows.features[label], label, values)


def stored_image(value: Any) -> bytes:
    """Return the encoded image that a row of `stored_images` holds.

    Raises:
        OSError: it holds none, or the file that it points to cannot be read.
    """
    if isinstance(value, dict):
        if value["bytes"] is None and value["path"]:
            return read_file(Path(value["path"]))
        value = value["bytes"]
    if not value:
        raise OSError(errno.ENODATA, "no image in this row")
    return bytes(value)


@lru_cache(maxsize=8)
def _open(source: HuggingFaceSource) -> Any:
    """Return the split as a `datasets.Dataset`; memory-mapped, so cheap to keep."""
    import datasets

    path = source.path
    try:
        if path is None:
            return datasets.load_dataset(source.id, source.config, split=source.split, revision=source.revision)
        if (path / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(path))[source.split]
        if (path / "state.json").is_file():
            return datasets.load_from_disk(str(path))
        if path.is_file():
            if path.suffix not in _BUILDERS:
                raise DatasetError(f"{path}: expected a folder, or a file of the kind {', '.join(_BUILDERS)}")
            return datasets.load_dataset(_BUILDERS[path.suffix], data_files=str(path), split=source.split)
        if not path.is_dir():
            raise DatasetError(f"no folder or file at {path}; for a dataset of the hub, set data.huggingface.id")
        found = datasets.load_dataset(str(path), source.config)
        _check_whole(path, found)
        return found[source.split] if source.split in found else datasets.load_dataset(str(path), split=source.split)
    except DatasetError:
        raise
    except Exception as error:  # builders, the hub and the network raise whatever they like
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DatasetError(f"{source} cannot be loaded as a Hugging Face dataset: {reason}") from error


def _check_whole(path: Path, found: Any) -> None:
    """Refuse a folder of images of which some lie in no split: `datasets` takes names that hold `test` for splits.

    Raises:
        DatasetError: naming how many are left out.
    """
    first = next(iter(found.values()))
    if first.info.builder_name != "imagefolder":
        return
    images = sum(file.suffix.lower() in IMAGE_SUFFIXES for file in path.rglob("*") if not file.name.startswith("."))
    rows = sum(len(split) for split in found.values())
    if rows < images:
        raise DatasetError(
            f"{path}: Hugging Face datasets reads {rows} of the {images} images, because it takes names of folders "
            f"for splits ({', '.join(found)}): set data.source to folder"
        )


@lru_cache(maxsize=8)
def _images(source: HuggingFaceSource, column: str) -> Any:
    return stored_images(_open(source), column)


def stored_images(rows: Any, column: str) -> Any:
    """Return the image column of a `datasets.Dataset`; its values are what is stored, bytes or {bytes, path}."""
    import datasets

    opened = rows.with_format(None).select_columns([column])
    if isinstance(opened.features[column], datasets.Value):
        return opened
    return opened.cast_column(column, datasets.Image(decode=False))


@lru_cache(maxsize=8)
def _stat(source: HuggingFaceSource, column: str) -> tuple[int, int] | None:
    files = [Path(entry["filename"]) for entry in _open(source).cache_files]
    try:
        return (len(_open(source)), max(file.stat().st_mtime_ns for file in files)) if files else None
    except OSError:
        return None


def _image_column(source: object, features: dict[str, Any], wanted: str | None) -> str:
    import datasets

    def holds_images(feature: Any) -> bool:
        if isinstance(feature, datasets.Value):
            return feature.dtype in ("binary", "large_binary")
        return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))

    fitting = [name for name, feature in features.items() if holds_images(feature)]
    return _choose(source, features, wanted, fitting, "image", IMAGE_COLUMNS)


def _label_column(source: object, features: dict[str, Any], wanted: str | None) -> str:
    import datasets

    named = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _is_plain(feature)]
    fitting = named or [name for name in plain if name.lower() in LABEL_COLUMNS]
    return _choose(source, features, wanted, [*named, *plain] if wanted else fitting, "label", LABEL_COLUMNS)


def _is_plain(feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return kind in ("string", "large_string", "bool") or kind.startswith(("int", "uint", "float"))


def _choose(
    source: object,
    features: dict[str, Any],
    wanted: str | None,
    fitting: list[str],
    what: str,
    usual: tuple[str, ...],
) -> str:
    columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    if wanted is not None:
        if wanted not in fitting:
            raise ConfigError(f"data.huggingface.{what}: {source} has no {what} column {wanted!r}; it has {columns}")
        return wanted
    preferred = [name for name in usual if name in fitting] if len(fitting) > 1 else fitting
    if not preferred:
        raise DatasetError(f"{source}: set data.huggingface.{what} to the column of the {what}s; it has {columns}")
    return preferred[0]


def _classes(source: object, feature: Any, column: str, values: list[Any]) -> tuple[tuple[str, ...], list[str | None]]:
    """Return the class ids in label order, and the class id of each row; None where it has none."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
        if len(set(names)) != len(names):
            raise DatasetError(f"{source}: two classes of the column {column!r} have one name")
        # Unlabelled rows, such as those of hidden test sets, are -1.
        return names, [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
    fractions = [value for value in values if isinstance(value, float) and not value.is_integer() and value == value]
    if fractions:
        raise DatasetError(
            f"{source}: the column {column!r} holds numbers such as {fractions[0]}, which are no classes: set "
            "data.huggingface.label to another column"
        )
    texts = [class_text(value) for value in values]
    unlabelled = without_label({text for text in texts if text is not None})
    texts = [None if text in unlabelled else text for text in texts]
    return label_order({text for text in texts if text is not None}), texts


class HuggingFaceDatasetReader(DatasetReader):
    """`huggingface`: a dataset of the hub, or in one of its formats at `data.path`."""

    takes = DatasetReader.takes | {"huggingface"}

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images of the split that `data.huggingface` names for the role."""
        section = config.huggingface or HuggingFaceConfig()
        return list_huggingface(config.path, section, getattr(section, role))

    def held_out(self, config: DataConfig) -> tuple[HeldOut, ...]:
        """Return what `data.huggingface` names a split for."""
        section, both = config.huggingface or HuggingFaceConfig(), get_args(HeldOut)
        return tuple(on for on in both if getattr(section, on) is not None)

    def check(self, config: DataConfig) -> None:
        """Check that there is a path or a hub id, and that held-out images are named once.

        Raises:
            ValueError: naming the key.
        """
        self.refuse_others(config)
        hub = config.huggingface.id if config.huggingface is not None else None
        if hub is None and config.path is None:
            raise ValueError(f"source {config.source!r} needs a path or huggingface.id")
        if hub is not None and config.path is not None:
            raise ValueError("give data.path or data.huggingface.id, not both")
        for on in self.held_out(config):
            if getattr(config, on) is not None:
                raise ValueError(f"give data.{on} or data.huggingface.{on}, not both")


READER = HuggingFaceDatasetReader()
