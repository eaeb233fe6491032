"""A checkpoint as diffusers' pipeline: its outline, by its configs alone, and the whole with its weights."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from augcond.errors import GeneratorError
from augcond.generators.loading import errors_only, locate_configs, quiet_progress, read_index
from augcond.generators.weights import find_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from augcond.generators.base import PipelineFormat
    from augcond.generators.loading import Checkpoint, WeightsOrigin


def load_pipeline(checkpoint: Checkpoint, layout: PipelineFormat, dtype: torch.dtype | None = None) -> Any:
    """Return the diffusers pipeline of a checkpoint, its models in evaluation mode.

    Args:
        checkpoint: where it is.
        layout: of which kind.
        dtype: what its models are loaded in; None: float32, for all but the largest.

    Raises:
        GeneratorError: diffusers cannot load it.
    """
    import diffusers

    try:
        with quiet_progress(), _any_autoencoder():
            options: dict[str, Any] = dict.fromkeys(layout.skipped)
            if "safety_checker" in options:
                options["requires_safety_checker"] = False
            if dtype is not None:
                options |= dtype_option(dtype)
            return getattr(diffusers, layout.name).from_pretrained(
                checkpoint.folder,
                use_safetensors=True,
                local_files_only=True,
                variant=checkpoint.variant or None,
                **options,
            )
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(
            f"generator.model: {checkpoint.identity.model} cannot be loaded as a {layout.name}: {error}"
        ) from error


def load_network(kind: Any, folder: Path, what: str) -> Any:
    """Return a single network in evaluation mode, from a folder as `save_pretrained` writes them.

    Args:
        kind: its class, of diffusers or transformers.
        folder: where its config and weights are.
        what: what it is called in messages, as for `find_weights`.

    Raises:
        GeneratorError: the weights are missing, or cannot be loaded.
    """
    variant = find_weights(folder, what).variant or None
    options = {"use_safetensors": True, "local_files_only": True, "variant": variant, "output_loading_info": True}
    try:
        with quiet_progress(), errors_only():
            network, found = kind.from_pretrained(folder, **options)
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{what} cannot be loaded as a {kind.__name__}: {error}") from error
    missing = sorted(found["missing_keys"])
    if missing:  # which the libraries fill with random numbers
        raise GeneratorError(f"{what} is no {kind.__name__}: it lacks {len(missing)} weights, such as {missing[0]}")
    return network.eval()


def dtype_option(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Return `dtype` as the argument of diffusers' `from_pretrained`, which has changed its name."""
    from diffusers.utils import deprecation_utils

    return {"dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype": dtype}


def outline(origin: WeightsOrigin, layout: PipelineFormat) -> Any:
    """Return what a checkpoint's configs say of its pipeline, so that it can be checked before weights are read.

    Args:
        origin: where it is; of a hub id no more than the configs is fetched.
        layout: of which kind.

    Returns:
        Its components as attributes: networks of diffusers without weights, the configs of those of transformers as
        `config`, and its scheduler.

    Raises:
        ConfigError: there is no such folder.
        GeneratorError: it is of another kind, a part is missing, or a config cannot be read.
    """
    folder = locate_configs(origin, layout)
    index = read_index(folder, origin)
    parts = SimpleNamespace()
    for name in (*layout.models, *({"scheduler"} & index.keys())):
        library, kind = index[name]
        try:
            with quiet_progress(), errors_only():
                setattr(parts, name, _outlined(folder / name, library, kind))
        except Exception as error:  # from any library that reads a part of it
            raise GeneratorError(
                f"{origin.key}.model: the config of {origin.model}/{name} is of no {kind}: {error}"
            ) from error
    return parts


def _config(folder: Path) -> Any:
    import transformers

    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _outlined(folder: Path, library: str, kind: str) -> Any:
    import diffusers
    import torch

    if library == "transformers":
        return SimpleNamespace(config=_config(folder))
    found = getattr(diffusers if library == "diffusers" else getattr(diffusers.pipelines, library), kind)
    config = found.load_config(folder, local_files_only=True)
    with torch.device("meta" if issubclass(found, torch.nn.Module) else "cpu"):
        return found.from_config(config)


@contextmanager
def _any_autoencoder() -> Iterator[None]:
    """Leave out diffusers' remark that an AutoencoderTiny is no AutoencoderKL: it takes its place."""
    log = logging.getLogger("diffusers.pipelines.pipeline_utils")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Expected types for vae")

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
