"""The calls of a generator, with what comes back compared with what its interface promises: none is trusted.

Everything that uses a generator calls it through these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from augcond.conditioning.framing import Framing
from augcond.errors import GeneratorError
from augcond.generators.base import Generated, Generator, GeneratorIdentity
from augcond.generators.devices import out_of_memory_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, dtype

    from augcond.conditioning.base import Conditioning

CONSTANT = "constant image"


def check_declared(generator: object, name: str) -> Generator:
    """Return what a family's `load` gave, if it is a generator that says what it takes and makes.

    Args:
        generator: what was loaded.
        name: of the family, for messages.

    Raises:
        GeneratorError: it is none, or one of its attributes is missing or of another kind.
    """
    if not isinstance(generator, Generator):
        raise GeneratorError(f"generator.name: {name!r} loads a {type(generator).__name__}, not a Generator")
    expected = {
        "identity": ("a GeneratorIdentity of texts", _is_identity),
        "encoder_size": ("a number of pixels, 0 without an image encoder", lambda value: _is_count(value, 0)),
        "embedding_shape": ("(D,) or (T, D)", lambda value: _are_counts(value, (1, 2), 0)),
        "image_size": ("(height, width) in pixels", lambda value: _are_counts(value, (2,), 1)),
        "inputs": ("a set of inputs", lambda value: isinstance(value, (set, frozenset))),
        "framing": ("a Framing, or None", lambda value: value is None or isinstance(value, Framing)),
    }
    for attribute, (words, fits) in expected.items():
        value = getattr(generator, attribute, None)
        if not fits(value):
            raise GeneratorError(f"generator.name: the {attribute} of {name!r} is {value!r}; expected {words}")
    return generator


def _is_identity(value: object) -> bool:
    return isinstance(value, GeneratorIdentity) and all(
        isinstance(part, str) for part in (value.name, value.model, value.revision)
    )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_counts(value: object, lengths: tuple[int, ...], least: int) -> bool:
    return isinstance(value, tuple) and len(value) in lengths and all(_is_count(edge, least) for edge in value)


def embed_images(generator: Generator, views: Tensor) -> Tensor:
    """Return `generator.encode_images(views)`, (B, *embedding_shape); rows may hold what is not finite.

    Args:
        generator: whose image encoder it is.
        views: (B, 3, S, S) in [0, 1].

    Raises:
        GeneratorError: what came back is of another type, shape or dtype, or not on the CPU.
        torch.OutOfMemoryError: the batch does not fit.
    """
    import torch

    shape = (len(views), *generator.embedding_shape)
    if not len(views):
        return torch.zeros(shape)
    with out_of_memory_errors():
        found = generator.encode_images(views)
    return _tensor(found, shape, torch.float32, "encode_images").detach()


def embed_prompts(generator: Generator, prompts: Sequence[str]) -> Tensor:
    """Return `generator.embed_prompts(prompts)`, (B, *embedding_shape), finite.

    Raises:
        ConfigError: the generator cannot embed prompts.
        GeneratorError: what came back is of another type, shape or dtype, not on the CPU, or not finite.
    """
    import torch

    found = _tensor(
        generator.embed_prompts(prompts), (len(prompts), *generator.embedding_shape), torch.float32, "embed_prompts"
    )
    return require_finite(found, "embed_prompts")


def require_finite(found: Tensor, call: str) -> Tensor:
    """Return `found` where all of it is finite; raises a `GeneratorError` that names the `call` where it is not."""
    if not found.isfinite().all():
        rows = int((~found.isfinite().flatten(1).all(1)).sum())
        raise GeneratorError(f"the generator's {call} gave NaN or infinite numbers for {rows} of {len(found)} inputs")
    return found


def generate_images(generator: Generator, conditioning: Conditioning, seeds: Sequence[int]) -> Generated:
    """Return `generator.generate(conditioning, seeds)`; images of one colour have an error, whoever made them.

    A row whose own result is wrong has an error; what is wrong with the whole batch is raised.

    Raises:
        GeneratorError: the images are of another type, shape, dtype or number, or not on the CPU, or there is not one
            error for each.
        torch.OutOfMemoryError: the batch does not fit.
    """
    import torch

    with out_of_memory_errors():
        made = generator.generate(conditioning, seeds)
    if not isinstance(made, Generated):
        raise GeneratorError(f"the generator's generate gave a {type(made).__name__}, not a Generated")
    images = _tensor(made.images, (len(seeds), *generator.image_size, 3), torch.uint8, "generate")
    if not isinstance(made.errors, (tuple, list)) or len(made.errors) != len(seeds):
        found = len(made.errors) if isinstance(made.errors, (tuple, list)) else type(made.errors).__name__
        raise GeneratorError(f"the generator's generate gave errors: {found}; expected one for each of {len(seeds)}")
    return Generated(images, tuple(map(_error, made.errors, map(_is_constant, images))))


def _is_constant(image: Tensor) -> bool:
    """Return whether an image (H, W, 3) has one colour; a few rows tell for nearly all, while the GPU waits."""
    return bool((image[:2] == image[0, 0]).all()) and bool((image == image[0, 0]).all())


def _error(said: object, constant: bool) -> str | None:
    if said is None:
        # Also what an image of NaN looks like once it is uint8.
        return CONSTANT if constant else None
    if isinstance(said, str) and said.strip():
        return said
    return f"the generator's generate gave the error {said!r}; expected None or a reason"


def _tensor(found: object, shape: tuple[int, ...], kind: dtype, call: str) -> Tensor:
    import torch

    if not isinstance(found, torch.Tensor):
        raise GeneratorError(f"the generator's {call} gave a {type(found).__name__}; expected a tensor")
    if found.shape[:1] != shape[:1]:
        raise GeneratorError(f"the generator's {call} gave a tensor {tuple(found.shape)} for {shape[0]} rows")
    if (tuple(found.shape), found.dtype, found.device.type) != (shape, kind, "cpu"):
        # Of one row, so that the same fault is the same reason in any batch.
        given = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape[1:])} on {found.device.type}"
        raise GeneratorError(
            f"the generator's {call} gave {given} for each row; expected {str(kind).removeprefix('torch.')} "
            f"{shape[1:]} on the CPU"
        )
    return found
