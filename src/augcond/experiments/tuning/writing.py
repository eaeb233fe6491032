"""What a tuning ends with: tuned.yaml, the table, the figure, and tuning.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from augcond.amounts import images_to_make
from augcond.config.loading import relative_paths
from augcond.evaluation.results import REAL_ONLY
from augcond.evaluation.tuning import Tuning, write_tuning
from augcond.experiments.tuning.candidates import AMOUNT, config_of
from augcond.files import write_atomically

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.store import RunFolder


def write_outcome(folder: RunFolder, config: RunConfig, found: Tuning) -> None:
    """Write tuned.yaml, tuning.csv, .md, .png and .svg, and last tuning.json."""
    from augcond.report.tuning import figure_files

    write_atomically(folder.tuned_path, tuned_text(folder, config, found).encode())
    write_atomically(folder.tuning_path.with_suffix(".csv"), to_csv(found).encode())
    write_atomically(folder.tuning_path.with_suffix(".md"), to_markdown(found).encode())
    for ending, data in figure_files(found).items():
        write_atomically(folder.tuning_path.with_suffix(f".{ending}"), data)
    write_tuning(folder.tuning_path, found)


def tuned_config(folder: RunFolder, config: RunConfig, found: Tuning) -> RunConfig:
    """Return the config that a tuning chose: that of the run, with what was chosen, in a folder of its own."""
    if found.gain is None:
        return config.model_copy(update={"run": folder.tuned_run_path})
    amounts = None
    share = float(found.settings.get(AMOUNT, 1.0))
    if share < 1:
        amounts = _scaled(config, share)
    tuned = config_of(config, found.settings, folder.tuned_run_path, amounts)
    if found.chosen == REAL_ONLY:
        arms = {"arms": [{"name": REAL_ONLY}]}
        training = type(tuned.training).model_validate(tuned.training.model_dump() | arms)
        tuned = tuned.model_copy(update={"training": training})
    return tuned


def _scaled(config: RunConfig, share: float) -> Mapping[str, int]:
    """Return a share of the images that a plan asks for of each class.

    Of a plan by real images (`fill_to`) it takes these: they are read again where the config is run, and checked there.
    """
    from augcond.pipeline import load_training_images

    real = load_training_images(config)
    amounts = images_to_make(config.plan, real.classes, real.counts())
    return {name: round(share * amount) for name, amount in zip(real.classes, amounts, strict=True)}


def tuned_text(folder: RunFolder, config: RunConfig, found: Tuning) -> str:
    """Return the text of tuned.yaml: the whole config, with what was found in comments above."""
    values = relative_paths(tuned_config(folder, config, found).model_dump(mode="json"), folder.path.resolve())
    lines = ["augcond tune chose this from the real training images alone; no test image was opened.", found.sentence]
    if found.gain is not None:
        lines += [
            f"Judged on {found.judged_images} real images of {found.classes} classes in {found.folds} folds, "
            f"{found.trainings} trainings of each of the last candidates; {found.images:,} images were made.",
            "The last candidates, each by all its trainings (points over real images alone in mean accuracy per class,",
            "95 % interval; that these are the best of many is not paid for here):",
            *(f"  {name}: {gain.text}" for name, gain in found.finalists),
        ]
    own = "training on real images alone" if found.chosen == REAL_ONLY else _told(found.settings)
    lines += [f"What is not the config's own: {own}.", *found.notes]
    lines += [f"Left out: {each}" for each in found.left_out]
    lines.append(f"Measure it once on the test images: augcond run {folder.tuned_path}")
    comment = "".join(f"# {line}\n" for text in lines for line in text.splitlines())
    return comment + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "nothing"


def to_csv(found: Tuning) -> str:
    """Return one line per candidate and round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["round", "images", "judge", "candidate", "gain", "kept"])
    for number, each in enumerate(found.rounds, start=1):
        for tried in each.tried:
            writer.writerow([number, each.images, each.judge, tried.name, round(tried.score, 6), tried.kept])
    return text.getvalue()


def to_markdown(found: Tuning) -> str:
    """Return one line per candidate, with its gain in points in each round that it was in."""
    heads = [f"round {number}: {each.images} images" for number, each in enumerate(found.rounds, start=1)]
    lines = ["| " + " | ".join(["candidate", *heads, "all trainings (95 %)"]) + " |", "|" + "---|" * (len(heads) + 2)]
    scores = [{tried.name: tried.score for tried in each.tried} for each in found.rounds]
    finalists = {name: gain.text for name, gain in found.finalists}
    names = dict.fromkeys(name for each in reversed(scores) for name in each)
    for name in names:
        cells = [f"{100 * each[name]:+.1f}" if name in each else "" for each in scores]
        lines.append("| " + " | ".join([name, *cells, finalists.get(name, "")]) + " |")
    notes = ["Points of mean accuracy per class over real images alone, on held-out real training images."]
    if found.rank_correlation is not None:
        used = "it ranked the first round" if found.rounds[0].judge == "probe" else "so training ranked the first round"
        notes.append(
            f"The cheap judge's rank correlation with training over {found.compared} candidates: "
            f"{found.rank_correlation:.2f}; {used}."
        )
    return "\n".join([*lines, "", *notes, found.sentence, *found.notes, ""])
