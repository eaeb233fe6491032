"""What was measured, row by row, with spreads and paired intervals; from the records alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.evidence.records import Record, read_records, unpack_labels

from augcond.config import EvaluationConfig, RunConfig, TrainingConfig
from augcond.config.base import with_neutral
from augcond.config.moved import as_of_0_1
from augcond.evaluation.intervals import SeedPredictions, comparable, compare, with_intervals
from augcond.evaluation.metrics import Predictions
from augcond.evaluation.results import Difference
from augcond.evaluation.verdicts import judged
from augcond.training.arms import Seeds

GROUPS = ("overall", "many", "medium", "few")


@dataclass(frozen=True, eq=False)
class Row:
    """One setting, over its seeds.

    Attributes:
        table: the units' name without the seed, such as `long-tail/text`.
        arm: which of their models.
        records: by seed.
    """

    table: str
    arm: str
    records: Mapping[int, Record]

    @property
    def models(self) -> list[dict[str, Any]]:
        """Its models, by seed, and of a seed by training."""
        return [model for _, record in sorted(self.records.items()) for model in self._models(record)]

    @property
    def seeds(self) -> int:
        """How many seeds were measured."""
        return len(self.records)

    @property
    def leaky(self) -> bool:
        """Whether its numbers come with planted leaks."""
        return any(record["leaks"] for record in self.records.values())

    def at(self, other: Row) -> Row:
        """Return this row at those of its seeds that `other` has too: means of the two then compare like with like."""
        return replace(self, records={seed: found for seed, found in self.records.items() if seed in other.records})

    def since(self, first: int) -> Row | None:
        """Return this row at its seeds from `first` on; None where there are none."""
        records = {seed: found for seed, found in self.records.items() if seed >= first}
        return replace(self, records=records) if records else None

    def only(self, seed: int) -> Row:
        """Return this row at one of its seeds."""
        return replace(self, records={seed: self.records[seed]})

    def mean(self, metric: str = "overall", part: str = "test") -> float | None:
        """Return the mean over the seeds; None where it was not measured."""
        values = [model[part][metric] for model in self.models if model[part] is not None]
        return None if not values or None in values else float(np.mean(values))

    def spread(self, metric: str = "overall", part: str = "test") -> float | None:
        """Return the standard deviation over seeds (n - 1), each the mean of its trainings; None for fewer than two."""
        values = []
        for record in self.records.values():
            own = [model[part][metric] for model in self._models(record) if model[part] is not None]
            if None in own:
                return None
            values += [float(np.mean(own))] if own else []
        return None if len(values) < 2 else float(np.std(values, ddof=1))

    def trained(self) -> dict[Seeds, SeedPredictions]:
        """Return its predictions of the test images."""
        found = {}
        for record in self.records.values():
            test = record["test"]
            labels = np.array(unpack_labels(test["labels"]))
            keys = tuple(f"{test['keys_sha256']}/{place}" for place in range(len(labels)))
            for model in self._models(record):
                # Which class was said is all that accuracies take.
                said = np.eye(len(record["classes"]))[np.array(unpack_labels(model["predicted"]))]
                predictions = Predictions(keys, labels, said)
                found[Seeds(**model["seeds"])] = SeedPredictions(predictions, tuple(model["real_counts"]))
        return found

    def check(self) -> None:
        """Raise `ValueError` where its seeds were measured with different settings."""
        kinds: dict[str, int] = {}
        for seed, record in self.records.items():
            config = with_neutral(RunConfig, record["config"])
            shared = [config[key] for key in ("prompt", "conditioning", "screening")]
            settings = with_neutral(TrainingConfig, self._models(record)[0]["settings"])
            # Records of one row may be of several versions, which name one setting differently.
            shared += [as_of_0_1(config["generator"]), settings]
            kinds.setdefault(json.dumps(shared, sort_keys=True), seed)
        if len(kinds) > 1:
            first, second = list(kinds.values())[:2]
            raise ValueError(
                f"{self.table}: seeds {first} and {second} were measured with different settings; "
                "python -m benchmarks.evidence measures again what tuning has changed"
            )

    def _models(self, record: Record) -> list[dict[str, Any]]:
        return [model for model in record["models"] if model["arm"] == self.arm]


Pair = tuple[Row | None, Row | None]
"""A row and the one that is subtracted; None where it is not measured yet."""


def compared(pairs: Sequence[Pair], metric: str = "overall") -> list[Difference | None]:
    """Return the paired differences of rows that stand together, with intervals and verdicts.

    The spread over seeds of each is shrunk towards that of the others, and verdicts are corrected for their number.
    None where a row is not measured, or where two rows have no common seed or other test images.
    """
    found = [_differences(*pair).get(metric) if None not in pair else None for pair in pairs]
    known = with_intervals([one for one in found if one is not None])
    # A row that is its baseline under another name is no question that was asked.
    asked = [place for place, one in enumerate(known) if one.spread is None or one.spread.own > 0]
    told = iter(judged(known, asked))
    return [next(told) if one is not None else None for one in found]


@cache
def _differences(row: Row, baseline: Row) -> Mapping[str, Difference]:
    shared = row.at(baseline)
    mine, others = shared.trained(), baseline.trained()
    if row is baseline or not comparable(mine, others) or len({p.predictions.keys for p in mine.values()}) > 1:
        return {}
    bounds = EvaluationConfig.model_validate(next(iter(row.records.values()))["config"]["evaluation"])
    # Under the rows' own tables: an arm of two tables may have one name.
    found = compare("row", "baseline", {"row": mine, "baseline": others}, bounds)
    if shared.seeds == 1:
        # Trainings of one seed would pass for seeds: their mean stands for it.
        found = [replace(each, per_seed=(each.mean,), spread=None) for each in found]
    return {difference.metric: difference for difference in found}


class Measured:
    """All records.

    Args:
        records: of one state of the generator's weights.

    Raises:
        ValueError: they are of several.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        revisions = {record["generator"]["revision"] for record in self.records}
        if len(revisions) > 1:
            raise ValueError(
                f"the records are of {len(revisions)} states of the generator's weights "
                f"({', '.join(sorted(revisions))}): "
                "measure on until all are of one, or move the others away"
            )
        rows: dict[tuple[str, str], dict[int, Record]] = {}
        for record in self.records:
            table, _, seed = record["unit"].rpartition("/seed-")
            for model in record["models"]:
                rows.setdefault((table or record["unit"], model["arm"]), {})[int(seed) if table else 0] = record
        self._rows = {key: Row(*key, found) for key, found in rows.items()}
        for row in self._rows.values():
            row.check()

    def row(self, table: str, arm: str) -> Row | None:
        """Return a row; None where it is not measured yet."""
        return self._rows.get((table, arm))

    def rows(self, start: str) -> list[Row]:
        """Return the rows whose table starts with `start`."""
        return [row for row in self._rows.values() if row.table.startswith(start)]


def read_measured(results: Path) -> Measured:
    """Return what the records in a folder hold.

    Raises:
        ValueError: there is none, or they do not go together.
    """
    records = list(read_records(results))
    if not records:
        raise ValueError(f"no records in {results}: run python -m benchmarks.evidence first")
    return Measured(records)
