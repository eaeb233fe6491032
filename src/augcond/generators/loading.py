"""Where a generator's weights lie, which revision they are, and what may be loaded of them.

Weights are safetensors files, never pickles, and no code of a checkpoint is run. Finding a checkpoint imports
neither torch nor diffusers.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augcond.assets import WORLD
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import GeneratorIdentity, PipelineFormat
from augcond.generators.weights import SUFFIXES, component_files, find_weights, hash_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from augcond.config import GeneratorConfig

_INDEX = "model_index.json"
_LIBRARIES = frozenset({"diffusers", "transformers", "flux", "stable_diffusion"})
_VARIANTS = ("*.fp16*", "*.bf16*")
_NEVER = ("*.non_ema*", "*.ema*")
_SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class WeightsOrigin:
    """Where weights are to come from, as a config says it.

    Attributes:
        model: a local folder or a hub id; of a generator's own checkpoint also `builtin`.
        revision: goes with hub ids only.
        name: the generator that wants them.
        key: the section of the config that says so, for messages.
    """

    model: str
    revision: str | None
    name: str
    key: str = "generator"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in diffusers' pipeline layout on this machine.

    Attributes:
        folder: where it lies.
        identity: which weights these are, wherever they lie.
        variant: of its files of weights, where some are there as `fp16` or `bf16` only; else empty.
    """

    folder: Path
    identity: GeneratorIdentity
    variant: str = ""


def locate_checkpoint(config: GeneratorConfig, layout: PipelineFormat) -> Checkpoint:
    """Return the checkpoint that `config.model` stands for, fetched from the hub where it is a hub id.

    Args:
        config: `model` is `builtin`, a local folder, or a hub id; `revision` goes with hub ids only.
        layout: what the folder must hold.

    Raises:
        ConfigError: `model` is neither of the three, or a revision is given for a folder.
        GeneratorError: the checkpoint is missing, cannot be fetched, is of another pipeline, or its weights are
            not safetensors.
    """
    return locate_pipeline(WeightsOrigin(config.model, config.revision, config.name), layout)


def locate_pipeline(origin: WeightsOrigin, layout: PipelineFormat) -> Checkpoint:
    """Return the checkpoint in diffusers' pipeline layout that `origin` stands for; see `locate_checkpoint`."""
    folder = find_pipeline(origin, layout)
    if folder is None:
        folder, commit = _fetch(origin, layout)
        variant = _check(folder, layout, origin)
        # A commit may hold both; what a folder holds is hashed.
        revision = f"{commit}+{variant}" if variant else commit
        return Checkpoint(folder, GeneratorIdentity(origin.name, origin.model, revision), variant)
    model = "builtin" if origin.model == "builtin" else folder.resolve().name
    revision = hash_checkpoint(folder, layout.skipped)
    return Checkpoint(folder, GeneratorIdentity(origin.name, model, revision), _check(folder, layout, origin))


def find_pipeline(origin: WeightsOrigin, layout: PipelineFormat) -> Path | None:
    """Return the folder that `origin` stands for, None where it is a hub id; raises what `locate_pipeline` does.

    No more is read of its weights than their headers.
    """
    if Path(origin.model).suffix in _SINGLE_FILES and not Path(origin.model).expanduser().is_dir():
        raise ConfigError(f"{origin.key}.model: {origin.model} is a checkpoint in a single file; {_converting(layout)}")
    folder = _builtin_folder(origin, layout) if origin.model == "builtin" else local_folder(origin, layout.example)
    if folder is not None:
        _check(folder, layout, origin)
    return folder


def locate_configs(origin: WeightsOrigin, layout: PipelineFormat) -> Path:
    """Return a folder with the configs of the checkpoint that `origin` stands for; raises what `locate_pipeline` does.

    Of a hub id nothing else is fetched: what it cannot do shows before gigabytes are.
    """
    folder = find_pipeline(origin, layout)
    if folder is None:
        folder, commit = fetch(origin, origin.revision, [_INDEX])
        if (folder / _INDEX).is_file():
            parts = _loaded(_check_index(folder, layout, origin), layout)
            fetch(origin, commit, [f"{name}/*.json" for name in parts])
            _check_folders(folder, layout, origin)
    return folder


def cached_file(repository: str, file: str, revision: str | None) -> Path | None:
    """Return a file of the hub as it lies in the local cache; None where it does not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def hash_checkpoint(folder: Path, skipped: Sequence[str] = ()) -> str:
    """Return `sha256:` and a hash over the relative paths and contents of all weights and configs.

    What counts are `model_index.json` and the files of the components that it names, but those `skipped`. Hidden files,
    read-me files and files of other kinds change nothing, nor does where the folder lies.
    """
    components = [name for name in _components(read_index(folder, str(folder))) if name not in skipped]
    paths = [path for name in components for path in component_files(folder, name)]
    return hash_files(folder, [folder / _INDEX, *paths])


def _components(index: dict[str, Any]) -> list[str]:
    """Return the names of the components that a `model_index.json` names, without those that are null."""
    return [
        name
        for name, value in index.items()
        if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and value[0] is not None
    ]


def _loaded(index: dict[str, Any], layout: PipelineFormat) -> list[str]:
    return [name for name in _components(index) if name not in layout.skipped]


def _builtin_folder(origin: WeightsOrigin, layout: PipelineFormat) -> Path:
    folder = WORLD / "checkpoint"
    if not folder.is_dir():
        raise GeneratorError(
            f"{origin.key}.model: this installation lacks the built-in checkpoint (assets/world/checkpoint in the "
            f"package): reinstall augcond, or name a folder or a hub id such as {layout.example}"
        )
    _refuse_revision(origin)
    found = read_index(folder, origin).get("_class_name")
    if found != layout.name:
        raise ConfigError(
            f"{origin.key}.model: the built-in checkpoint is a {found}, but {origin.name} needs a {layout.name}: name "
            f"a folder or a hub id such as {layout.example}"
        )
    return folder


def local_folder(origin: WeightsOrigin, example: str) -> Path | None:
    """Return the folder that `origin.model` is, or None where it is a hub id.

    Raises:
        ConfigError: it is neither, or a revision is given for a folder.
    """
    model = origin.model
    folder = Path(model).expanduser()
    if folder.is_dir():
        _refuse_revision(origin)
        return folder
    if model.startswith((".", "~")) or folder.is_absolute() or not _HUB_ID.fullmatch(model):
        builtin = "`builtin`, " if origin.key == "generator" else ""
        raise ConfigError(
            f"{origin.key}.model: no folder {model}; expected {builtin}a checkpoint's folder, or a hub id such as "
            f"{example}"
        )
    return None


def _refuse_revision(origin: WeightsOrigin) -> None:
    if origin.revision is not None:
        raise ConfigError(
            f"{origin.key}.revision: {origin.model} is a folder, which is identified by its contents; "
            "a revision belongs to a hub id"
        )


def _fetch(origin: WeightsOrigin, layout: PipelineFormat) -> tuple[Path, str]:
    """Return the local folder and commit hash of a hub checkpoint; only what is loaded is fetched."""
    snapshot, commit = fetch(origin, origin.revision, [_INDEX])
    if (snapshot / _INDEX).is_file():
        parts = _loaded(_check_index(snapshot, layout, origin), layout)
        # A branch or tag may move: it was resolved once, and everything else is asked for by commit.
        patterns = [_INDEX, *(f"{part}/*{suffix}" for part in parts for suffix in SUFFIXES)]
        fetch(origin, commit, patterns)
        if not all(any((snapshot / name).glob("*.safetensors")) for name in layout.models):
            fetch(origin, commit, patterns, ignored=_NEVER)
    return snapshot, commit


def _converting(layout: PipelineFormat) -> str:
    """Return how a checkpoint in a single file becomes a folder, in words."""
    return (
        "name a folder that diffusers has made of it: by "
        f"{layout.name}.from_single_file(FILE).save_pretrained(FOLDER), or by its script "
        "convert_original_stable_diffusion_to_diffusers.py where the class has no such function"
    )


def fetch(
    origin: WeightsOrigin,
    revision: str | None,
    patterns: Sequence[str],
    ignored: Sequence[str] = (*_VARIANTS, *_NEVER),
) -> tuple[Path, str]:
    """Return the local folder of a hub snapshot that holds the files matching `patterns`, and its commit hash.

    Args:
        origin: the hub id.
        revision: of it.
        patterns: of the files that are fetched.
        ignored: patterns of those that are not.

    Raises:
        GeneratorError: there is no such repository, or it cannot be reached and is not in the local cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    key, wanted = origin.key, f"{origin.model} at revision {revision}" if revision else origin.model
    try:
        snapshot = Path(
            snapshot_download(
                origin.model, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(ignored)
            )
        )
    except GatedRepoError as error:
        raise GeneratorError(
            f"{key}.model: {wanted} asks you to accept its licence on huggingface.co first; then log in with "
            "`hf auth login`"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise GeneratorError(
            f"{key}.model: the hub has no {wanted}; check the name, or log in with `hf auth login` if it is private"
        ) from error
    except Exception as error:  # whatever the network stack raises, the user needs the same two ways out
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GeneratorError(
            f"{key}.model: {wanted} is not in the local cache and cannot be fetched ({reason}); connect to the "
            f"network, or set {key}.model to a local folder"
        ) from error
    return snapshot, snapshot.name


def locate_files(origin: WeightsOrigin, example: str, patterns: Sequence[str]) -> tuple[Path, str]:
    """Return a folder with files that are no pipeline, and of a hub id, of which those are fetched, the commit hash.

    Raises:
        ConfigError: `origin` is neither a folder nor a hub id; `example` is one.
        GeneratorError: it cannot be fetched.
    """
    folder = local_folder(origin, example)
    return (folder, "") if folder is not None else fetch(origin, origin.revision, patterns)


def identify(origin: WeightsOrigin, folder: Path, commit: str, files: Sequence[Path]) -> GeneratorIdentity:
    """Return which weights these are: of a hub id by its commit hash, of a folder by a hash over `files` in it."""
    if commit:
        return GeneratorIdentity(origin.name, origin.model, commit)
    return GeneratorIdentity(origin.name, folder.resolve().name, hash_files(folder, files))


def read_index(folder: Path, origin: WeightsOrigin | str) -> dict[str, Any]:
    """Return what the `model_index.json` of a checkpoint says; `origin` is what it is called in messages."""
    model, key = (origin, "generator") if isinstance(origin, str) else (origin.model, origin.key)
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GeneratorError(
            f"{key}.model: {model} holds no {_INDEX}: expected a checkpoint in diffusers' pipeline layout, as "
            f"written by save_pretrained{_in_one_file(folder)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise GeneratorError(f"{key}.model: {model}/{_INDEX} cannot be read: {error}") from error
    if not isinstance(index, dict):
        raise GeneratorError(f"{key}.model: {model}/{_INDEX} is not a JSON object")
    return index


def _in_one_file(folder: Path) -> str:
    single = sorted(path.name for path in folder.glob("*") if path.suffix in _SINGLE_FILES)
    return f"; {single[0]} may be one in a single file, which diffusers' from_single_file reads" if single else ""


def _check_index(folder: Path, layout: PipelineFormat, origin: WeightsOrigin) -> dict[str, Any]:
    model, key = origin.model, origin.key
    index = read_index(folder, origin)
    found = index.get("_class_name")
    if found != layout.name:
        raise GeneratorError(f"{key}.model: {model} is a {found}; this generator needs a {layout.name}")
    for name in _components(index):
        if not name.isidentifier():
            raise GeneratorError(f"{key}.model: {model} names a component {name!r}, which is no name of a sub-folder")
        if index[name][0] not in _LIBRARIES:
            raise GeneratorError(
                f"{key}.model: {model} wants component {name!r} from {index[name][0]!r}; code other than "
                "diffusers' and transformers' is not run"
            )
    missing = sorted(set(layout.models) - set(_components(index)))
    if missing:
        raise GeneratorError(f"{key}.model: {model} lacks {', '.join(missing)} in its {_INDEX}")
    return index


def _check_folders(folder: Path, layout: PipelineFormat, origin: WeightsOrigin) -> None:
    parts = _loaded(_check_index(folder, layout, origin), layout)
    missing = [name for name in parts if not (folder / name).is_dir()]
    if missing:
        raise GeneratorError(
            f"{origin.key}.model: {origin.model} lacks the folder {missing[0]}, which its {_INDEX} names: complete the "
            "download"
        )


def _check(folder: Path, layout: PipelineFormat, origin: WeightsOrigin) -> str:
    """Check the files of a checkpoint, and return the variant of those that are there in no other; else nothing."""
    _check_folders(folder, layout, origin)
    model = f"{origin.key}.model: {origin.model}"
    variants = {find_weights(folder / name, f"{model}/{name}").variant for name in layout.models} - {""}
    if len(variants) > 1:
        raise GeneratorError(f"{model} holds some weights as fp16 only and others as bf16 only; complete the download")
    return "".join(variants)


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Switch the progress bars of diffusers and transformers off for a while."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    active = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in active:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in active:
            log.enable_progress_bar()


@contextmanager
def errors_only() -> Iterator[None]:
    """Silence the warnings of diffusers and transformers for a while.

    diffusers casts the UNet itself, and warns of modules that do not exist; transformers tells of every weight that
    is there beside those of the network which is loaded.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = [(log, log.get_verbosity()) for log in (diffusers_logging, transformers_logging)]
    for log, _ in before:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, verbosity in before:
            log.set_verbosity(verbosity)
