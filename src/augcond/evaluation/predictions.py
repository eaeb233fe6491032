"""Predictions of a trained model on disk: one row per test image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from augcond.errors import CorruptRunError
from augcond.evaluation.metrics import Predictions
from augcond.files import make_folder
from augcond.sealed import read_table, write_table
from augcond.store.names import FILES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def save_predictions(path: Path, predictions: Predictions, classes: Sequence[str]) -> str:
    """Write key, true label, predicted label and the probability of every class of each test image, at once.

    Returns:
        The sha256 of the file.
    """
    width = predictions.probabilities.shape[1]
    flat = pa.array(predictions.probabilities.astype(np.float32).ravel())
    table = pa.table(
        {
            "key": pa.array(predictions.keys, pa.string()),
            "label": pa.array(predictions.labels, pa.int64()),
            "class_id": pa.array([classes[label] for label in predictions.labels], pa.string()),
            "predicted": pa.array(predictions.predicted, pa.int64()),
            "predicted_class_id": pa.array([classes[label] for label in predictions.predicted], pa.string()),
            "confidence": pa.array(predictions.probabilities.max(axis=1), pa.float64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, width),
        }
    )
    make_folder(path.parent, 3)  # RUN/predictions/ON/ARM
    return write_table(path, table)


def read_predictions(path: Path, sha256: str = "") -> Predictions:
    """Return what `save_predictions` wrote; probabilities are rounded to float32.

    Args:
        path: the file.
        sha256: of the file, as the results recorded it; empty where they did not.

    Raises:
        CorruptRunError: the file is missing or not what was written.
    """
    mend = FILES["predictions"].mend
    try:
        columns = ("key", "label", "probabilities")
        table = read_table(path, mend, columns, sha256=sha256 or None, by=FILES["results"].pattern).content
        flat = table["probabilities"].combine_chunks().flatten().to_numpy()
        return Predictions(
            tuple(table["key"].to_pylist()), table["label"].to_numpy(), flat.reshape(table.num_rows, -1).astype(float)
        )
    except (OSError, ValueError) as error:
        raise CorruptRunError(f"{path} cannot be read: {error}; {mend}") from error
