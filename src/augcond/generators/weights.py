"""Files of weights: which of a folder are read, whether they are whole, and by what they are known.

Nothing here imports torch or diffusers, and of weights no more is read than headers and, to hash them, bytes.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from augcond.errors import GeneratorError
from augcond.files import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Of the files of a component that are fetched and hashed."""

_VARIANTS = ("", "fp16", "bf16")
"""Of which weights there may be several; the first that is there is read."""

_NAMES = ("diffusion_pytorch_model", "model")
"""What diffusers and transformers call their files of weights."""

_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one network.

    Attributes:
        files: one, or the shards of an index, each of them there.
        variant: `fp16` or `bf16` where there are no others; else empty.
    """

    files: tuple[Path, ...]
    variant: str


def find_weights(folder: Path, what: str) -> Weights:
    """Return the weights that a folder holds, as `save_pretrained` writes them, whole or in shards.

    Args:
        folder: of one component of a pipeline.
        what: what it is called in messages, such as `generator.model: someone/model/unet`.

    Raises:
        GeneratorError: there are none, some are missing, or they are something else than safetensors.
    """
    for variant in _VARIANTS:
        for name in _NAMES:
            found = _files(folder, name, variant, what)
            if found:
                for path in found:
                    _check(path, what)
                return Weights(found, variant)
    if list(folder.glob("*.safetensors")):
        raise GeneratorError(
            f"{what} holds no {' or '.join(f'{name}.safetensors' for name in _NAMES)}, nor the index of its shards: "
            "complete the download, or save it with save_pretrained"
        )
    raise GeneratorError(
        f"{what} holds no safetensors weights; pickled weights (.bin, .ckpt) are not loaded: convert them with "
        "save_pretrained(safe_serialization=True), or complete the download"
    )


def _files(folder: Path, name: str, variant: str, what: str) -> tuple[Path, ...]:
    """Return the file of that name and variant, or its shards; nothing where there is neither."""
    suffix = f".{variant}" if variant else ""
    whole = folder / f"{name}{suffix}.safetensors"
    if whole.is_file():
        return (whole,)
    index = folder / f"{name}.safetensors.index{suffix}.json"
    if not index.is_file():
        return ()
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        shards = tuple(folder / shard for shard in sorted(set(named)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GeneratorError(f"{what}: {index.name} is no index of shards: {error}") from error
    for shard in shards:
        if shard.parent != folder or shard.suffix != ".safetensors":
            raise GeneratorError(f"{what}: {index.name} names {shard.name}, which is no safetensors file beside it")
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise GeneratorError(
            f"{what} lacks {len(missing)} of the {len(shards)} shards that {index.name} names, such as "
            f"{', '.join(missing[:1])}: complete the download"
        )
    return shards


def _check(path: Path, what: str) -> None:
    try:
        weight_shapes(path)
    except (OSError, SafetensorError) as error:
        if _is_pointer(path):
            raise GeneratorError(
                f"{what}/{path.name} is a pointer of Git LFS, not the file: run `git lfs pull` where it was cloned"
            ) from error
        raise GeneratorError(
            f"{what}/{path.name} is no whole safetensors file ({error}); renamed pickles are not loaded: convert them "
            "with save_pretrained(safe_serialization=True), or complete the download"
        ) from error


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights in a safetensors file, by name; only its header is read.

    Raises:
        OSError: the file is not there.
        SafetensorError: it is something else, such as a renamed pickle.
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def hash_files(folder: Path, paths: Sequence[Path]) -> str:
    """Return `sha256:` and a hash over the contents of files and their paths relative to `folder`."""
    paths = sorted(paths, key=lambda path: path.relative_to(folder).as_posix())
    # File by file, in threads: hashing releases the interpreter lock, and real checkpoints have gigabytes.
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(file_sha256, paths))
    total = hashlib.sha256()
    for path, digest in zip(paths, digests, strict=True):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return f"sha256:{total.hexdigest()}"


def component_files(folder: Path, component: str) -> Iterator[Path]:
    """Yield the weights and configs of one component of a checkpoint."""
    for path in (folder / component).rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path.suffix in SUFFIXES and not hidden and not path.stem.lower().startswith("readme"):
            yield path
