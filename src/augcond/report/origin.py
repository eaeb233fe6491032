"""Where a page's numbers are from, and what repeats them: date, device, versions, seeds, licences, config, command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from augcond.errors import AugcondError
from augcond.evaluation.provenance import versions
from augcond.generators.families import weights_licence
from augcond.report.citing import bibtex
from augcond.report.facts import portable_config

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.evaluation.results import Results
    from augcond.report.facts import RunFacts

_UNKNOWN = "not recorded: augcond evaluate records it"


@dataclass(frozen=True, slots=True)
class Origin:
    """What stands under Provenance.

    Attributes:
        lines: names and values.
        command: what repeats everything, given `config`.
        config: in full, as YAML.
        citation: BibTeX.
    """

    lines: tuple[tuple[str, str], ...]
    command: str
    config: str
    citation: str


def origin_of(facts: RunFacts, results: Results | None) -> Origin:
    """Return the provenance of a run."""
    config, columns = facts.config, facts.plan.columns
    lines = (
        *_measured(results, _made_on(facts)),
        *_licences(config),
        ("generator", columns.generator),
        ("revision", columns.revision),
        ("libraries that made the images", _versions(facts.versions())),
        ("seeds", _seeds(config, results)),
    )
    command = "augcond run config.yaml"
    citation = bibtex(config.generator.name, columns.generator.partition(":")[2], columns.revision)
    return Origin(tuple(line for line in lines if line[1]), command, portable_config(facts), citation)


def origin_of_table(results: Results, config: RunConfig | None, text: str, command: str) -> Origin:
    """Return the provenance of a sweep or a comparison.

    Args:
        results: the table.
        config: what its runs share; None where that is not known.
        text: that config in full, as YAML.
        command: what repeats everything.
    """
    lines = [*_measured(results, ""), ("seeds", _seeds(config, results))]
    citation = bibtex("", "", "")
    if config is not None:
        lines[1:1] = [*_licences(config), ("generator", config.generator.name), ("model", config.generator.model)]
        citation = bibtex(config.generator.name, "", "")
    return Origin(tuple(line for line in lines if line[1]), command, text, citation)


def _measured(results: Results | None, made: str) -> Iterable[tuple[str, str]]:
    found = results.provenance if results is not None else None
    if found is None:
        yield "date", made or _UNKNOWN
        if results is not None:
            yield "device", _UNKNOWN
        yield "augcond", versions().get("augcond", "")
        return
    yield "date", found.date
    yield "device", found.device
    yield "commit of augcond", found.commit or "no checkout: the released version below"
    yield "versions", _versions({name: (number,) for name, number in found.versions.items()})


def _made_on(facts: RunFacts) -> str:
    """Return the day on which the last shard was made."""
    folder = facts.folder
    times = [
        folder.marker_path(number).stat().st_mtime
        for number, marker in enumerate(facts.markers)
        if marker is not None and folder.marker_path(number).exists()
    ]
    return f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d} (the last images)" if times else ""


def _versions(found: Mapping[str, Iterable[str]]) -> str:
    return ", ".join(f"{library} {' and '.join(numbers)}" for library, numbers in found.items())


def _licences(config: RunConfig) -> Iterable[tuple[str, str]]:
    try:
        licence = weights_licence(config.generator)
    except AugcondError:
        licence = ""  # of a family of one's own that is not importable where the report is made
    yield "licence of the generator", licence or "not known"
    data = "MIT (Fashion-MNIST)" if config.data.source == "builtin" else "not known to augcond: see where they are from"
    yield "licence of the data", data


def _seeds(config: RunConfig | None, results: Results | None) -> str:
    if results is not None:
        found = [seed.seeds for arm in results.arms for seed in arm.seeds]
        kinds = {
            "split": {seed.split for seed in found if seed.split is not None},
            "plan": {seed.generation for seed in found},
            "training": {seed.training for seed in found},
        }
    elif config is not None:
        split = config.data.split
        kinds = {
            "split": set() if split is None else {split.seed},
            "plan": {config.plan.seed},
            "training": set(config.training.training_seeds),
        }
    else:
        return ""
    return "; ".join(f"{kind} {', '.join(map(str, sorted(values)))}" for kind, values in kinds.items() if values)
