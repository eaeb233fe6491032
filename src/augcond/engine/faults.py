"""What an exception of a generator, a recipe or a reader means for the rows that were being made."""

from __future__ import annotations

import logging
import traceback

import torch

from augcond.errors import AugcondError, GeneratorError, ImageError

logger = logging.getLogger(__name__)

FEWEST_TO_STOP = 8
"""So many rows of a shard must fail before their share counts: a small shard with a bad image or two stops nothing."""

_LONGEST_REASON = 300
_DEEPEST_CHAIN = 16
_CUDA_ERRORS = ("CUDA error", "HIP error")


def most_failed(failed: int, rows: int, share: float) -> bool:
    """Return whether more than `share` of a shard's rows failed, and enough of them to mean something."""
    return failed >= FEWEST_TO_STOP and failed > share * rows


class Faults:
    """Turns exceptions into reasons of rows; of each kind the traceback is logged once."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def reason(self, error: Exception, where: str) -> str:
        """Return why a row failed, in one line.

        Args:
            error: what was raised.
            where: what raised it, such as `the generator`; what augcond raises on purpose says it itself.

        Raises:
            GeneratorError: after this error, nothing can be computed in this process any more.
        """
        if isinstance(error, ImageError):
            return f"{where}: {one_line(_said(error))}"
        _raise_if_lost(error)
        kind = f"{type(error).__qualname__} {traceback.extract_tb(error.__traceback__)[-1:]}"
        if kind not in self._kinds and not isinstance(error, OSError):
            self._kinds.add(kind)
            # Not a warning, which terminals show: that is for the log, and for who wrote the generator.
            logger.info("%s: %s", where, type(error).__name__, exc_info=error)
        return one_line(_said(error)) if isinstance(error, AugcondError) else f"{where}: {_described(error)}"


def _described(error: Exception) -> str:
    """Return the type and what is said, without the name of a file: equal reasons are counted together."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    said = one_line(_said(error))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of one's own, which cannot say what it is
        return ""


def one_line(text: str) -> str:
    """Return `text` as a reason: one line of bounded length that every file can hold."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 1]}…"


def _raise_if_lost(error: Exception) -> None:
    seen: BaseException | None = error
    for _ in range(_DEEPEST_CHAIN):
        if seen is None or isinstance(seen, torch.OutOfMemoryError):
            return
        if _is_cuda_error(seen):
            raise GeneratorError(
                f"the GPU failed ({one_line(_said(seen))}), and nothing more can be computed in this process. "
                "Every shard that was committed is safe: run the same command again to go on. If it fails again at the "
                "same shard, look for the cause in the generator, or in the GPU (nvidia-smi)"
            ) from error
        seen = seen.__cause__ or seen.__context__


def _is_cuda_error(error: BaseException) -> bool:
    """Return whether a CUDA context is of no use after `error`."""
    # AcceleratorError came with PyTorch 2.8; before, the text alone tells.
    named = isinstance(error, getattr(torch, "AcceleratorError", ()))
    return named or (isinstance(error, RuntimeError) and _said(error).startswith(_CUDA_ERRORS))
