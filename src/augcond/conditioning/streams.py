"""Streams of random numbers: one per row and purpose, each seeded by a hash.

A row of the plan has one seed, a hash of (plan seed, class id, index). Everything random about the row is drawn from
a stream of its own, seeded by a hash of (row seed, purpose). So what is drawn for one purpose depends neither on what
is drawn for another, nor on the recipe, the batch, the order or the worker; and rows of the same class and index have
the same sources, lambda, crops and noise under every recipe, which lets recipes be compared in pairs.

Importing this module imports neither PyTorch nor NumPy: planning hashes a million rows without the one, reading a
config needs none of both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

SOURCES: Final = "sources"
LAMBDA: Final = "lambda"
BOX: Final = "box"
RUN: Final = "run"
DROPOUT: Final = "dropout"
EMBEDDING_NOISE: Final = "embedding-noise"
INITIAL_NOISE: Final = "initial-noise"
MIX: Final = "mix"
"""Whether a mixing recipe mixes this row at all (`mix_probability`)."""
PROMPT: Final = "prompt"
CLASS_NAME: Final = "class-name"
"""Which of a class's several names its prompt uses."""

_SEED_BITS: Final = 63  # fits the signed 64-bit integers of parquet and PyTorch
_SEED_MASK: Final = (1 << _SEED_BITS) - 1

# Hash of what, so that a row seed and a stream seed of the same text still differ.
_ROW: Final = b"augcond-row"
_STREAM: Final = b"augcond-stream"

# PyTorch's global generator is one per process, so only one thread at a time may borrow it.
_global_generator = threading.RLock()


def crop_purpose(position: int) -> str:
    """Return the purpose of the random resized crop of source `position`, counted from 1 as in x1, x2."""
    return f"crop-{position}"


def augment_purpose(position: int) -> str:
    """Return the purpose of the transforms (`augment:`) on source `position`, counted from 1 as in x1, x2."""
    return f"augment-{position}"


def row_seed(plan_seed: int, class_id: str, index: int) -> int:
    """Return the seed of one plan row, in [0, 2^63).

    Args:
        plan_seed: the plan's own seed, >= 0.
        class_id: the class's id, as in the dataset (a folder name).
        index: number of the row within its class, >= 0.
    """
    return int(row_seeds(plan_seed, class_id, 1, start=index)[0])


def row_seeds(plan_seed: int, class_id: str, count: int, *, start: int = 0) -> NDArray[np.int64]:
    """Return the seeds of `count` consecutive rows of one class, int64, (count,), each in [0, 2^63).

    Entry i equals `row_seed(plan_seed, class_id, start + i)`, at about a microsecond each.
    """
    import numpy as np

    if plan_seed < 0 or start < 0:
        raise ValueError(f"plan seed and index must not be negative (got {plan_seed} and {start})")
    # Decimal digits, a slash, the class id and eight bytes of index: no two rows hash the same bytes.
    # A folder's name need not be valid Unicode; surrogateescape gives back its very bytes.
    head = f"{plan_seed}/{class_id}".encode("utf-8", "surrogateescape")
    prefix = blake2b(head, digest_size=8, person=_ROW)
    digests = bytearray(8 * count)
    for position in range(count):
        state = prefix.copy()
        state.update((start + position).to_bytes(8, "little"))
        digests[8 * position : 8 * position + 8] = state.digest()
    seeds = np.frombuffer(digests, dtype="<u8") & np.uint64(_SEED_MASK)
    return seeds.astype(np.int64)


def stream_seed(row_seed: int, purpose: str) -> int:
    """Return the seed of the stream for `purpose`, in [0, 2^63).

    Args:
        row_seed: seed of the row (or of the plan, for what is drawn once per plan), >= 0.
        purpose: what the numbers are for: one of this module's constants, `crop_purpose` or `augment_purpose`.
    """
    if row_seed < 0:
        raise ValueError(f"a seed must not be negative (got {row_seed})")
    digest = blake2b(f"{int(row_seed)}/{purpose}".encode(), digest_size=8, person=_STREAM).digest()
    return int.from_bytes(digest, "little") & _SEED_MASK


def numpy_stream(row_seed: int, purpose: str) -> np.random.Generator:
    """Return the stream for scalar draws such as lambda, a box or the start of a run."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(stream_seed(row_seed, purpose)))


def torch_stream(row_seed: int, purpose: str) -> torch.Generator:
    """Return the stream for noise tensors; on the CPU, so that every device gets the same noise.

    PyTorch's CPU generator keeps the lower 32 bits of its seed. Among a million rows some hundred pairs, of whichever
    classes and sources, therefore share their noise; that is harmless for noise, and why scalars come from NumPy.
    """
    import torch

    return torch.Generator(device="cpu").manual_seed(stream_seed(row_seed, purpose))


@contextmanager
def seeded(row_seed: int, purpose: str) -> Iterator[None]:
    """Let PyTorch's global CPU generator be the stream for `purpose` within the block, and restore it after.

    For libraries that draw from the global generator only, such as torchvision's transforms. Threads take turns;
    a thread may nest blocks. A thread that draws from the global generator *without* this function would draw from the
    stream meanwhile: augcond has none.
    """
    import torch

    # Not torch.manual_seed, which reseeds the generators of all GPUs as well.
    generator = torch.default_generator
    with _global_generator:
        state = generator.get_state()
        generator.manual_seed(stream_seed(row_seed, purpose))
        try:
            yield
        finally:
            generator.set_state(state)
