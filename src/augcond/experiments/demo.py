"""The demo: the built-in world through every stage, in about three minutes on two idle CPU cores.

A long tail of real garments is filled up with generated ones; classifiers are trained with and without them and judged
on the real test set; a page shows it all. Two training seeds show how it goes, and prove nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from augcond.config import ConditioningConfig, RunConfig, parse_config
from augcond.errors import CorruptRunError, RunError, RunMismatchError
from augcond.experiments.preview import contact_sheet, preview
from augcond.files import write_atomically
from augcond.generators import load_generator, recipes_for
from augcond.pipeline import evaluate, generate, load_training_images, train
from augcond.progress import Stage, format_seconds, log_to, no_stage
from augcond.report import write_report
from augcond.store import RunFolder, audit_run, export_run

if TYPE_CHECKING:
    from augcond.engine import Summary
    from augcond.evaluation.results import Results
    from augcond.store import Audit

# Two idle cores make some 40 images and 13 training steps a second; these numbers are what three minutes allow.
HEAD = 50
"""Real images of the largest class, and what every class is filled to."""
SMALLEST = 2
"""Real images of the smallest class."""
STEPS = 250
SEEDS = 2
GUIDANCE = 10.0
"""What validation images chose on this world, for both recipes (docs/results.md)."""

logger = logging.getLogger(__name__)


def demo_config(to: Path) -> RunConfig:
    """Return the config of the demo's run in the folder `to`: real images alone, `text`, and the default recipe."""
    return parse_config(
        {
            "protocol": "long-tail",
            "data": {
                "source": "builtin",
                "split": {"name": "long-tail", "imbalance": HEAD / SMALLEST, "head": HEAD},
            },
            "plan": {"fill_to": HEAD},
            "conditioning": {"recipe": list(dict.fromkeys(("text", *ConditioningConfig().recipe)))},
            "generator": {"guidance_scale": GUIDANCE},
            "training": {"steps": STEPS, "seeds": SEEDS},
            "run": to / "run",
        }
    )


def run_demo(
    to: Path,
    config: RunConfig,
    *,
    say: Callable[[str], object],
    show: Callable[[Summary | Audit | Results], object],
    progress: Stage = no_stage,
) -> Results:
    """Run every stage, tell what it does and what to look at, and return the results; call it again to resume.

    Args:
        to: gets the contact sheet and the export.
        config: of the run; see `demo_config`.
        say: is told what is done, line by line.
        show: is given what stages return.
        progress: see `augcond.progress.Stage`.

    Raises:
        RunMismatchError: `to` holds a demo of another version of augcond, or of other settings.
        AugcondError: as the stages do.
    """
    folder = RunFolder(config.run)
    folder.create()
    started = time.monotonic()
    recipes = ", ".join(config.conditioning.recipe_names)
    with log_to(folder.log_path), _of_this_version(to, folder):
        say(f"1/6  generating images by {recipes}, for classes with few real ones")
        with progress("images") as told:
            show(generate(config, progress=told))
        say("2/6  checking every image and its origin, and exporting class folders with metadata.parquet")
        with progress("shards read") as told:
            audit = audit_run(folder, progress=told)
        show(audit)
        if audit.problems:
            raise RunError(f"the demo's run is not sound (see the problems above): delete {to} and start again")
        with progress("images written") as told:
            export_run(folder, to / "synthetic", "imagefolder", overwrite=True, progress=told)
        say(f"3/6  training classifiers: real images alone, and real with those by {recipes}")
        with progress("training steps") as told:
            train(config, progress=told)
        say("4/6  judging them on the real test set, each image once")
        with progress("models judged") as told:
            results = evaluate(config, progress=told)
        show(results)
        say("5/6  drawing what every recipe makes of the same sources")
        _draw_sheet(config, to / "preview.png", progress)
        say("6/6  writing the report")
        page = write_report(folder)
    seeds = len(config.training.training_seeds)
    say(
        f"\ndone in {format_seconds(time.monotonic() - started)}. This is a demonstration with {seeds} training "
        f"seed{'s' if seeds != 1 else ''} of one split, not evidence: another draw may come out the other way."
    )
    say("look at")
    say(f"  {page}  the report: open it in a browser")
    say(f"  {to / 'preview.png'}  sources, and what every recipe makes of them")
    say(f"  {to / 'synthetic'}  the images, with their origin in metadata.parquet")
    return results


@contextmanager
def _of_this_version(to: Path, folder: RunFolder) -> Iterator[None]:
    """Turn what the stages say of a run with other settings into what to do about a demo."""
    try:
        yield
    except (RunMismatchError, CorruptRunError) as error:
        # Its advice is for runs of one's own, so the log keeps it and the message does not.
        logger.error("%s", error)
        raise RunMismatchError(
            f"{to} holds a demo of another version of augcond, or one that was changed ({folder.log_path} says what "
            f"differs): delete {to}, or name another folder (augcond demo FOLDER)"
        ) from error


def _draw_sheet(config: RunConfig, sheet: Path, progress: Stage) -> None:
    if sheet.exists():
        return  # of the same run: another one is refused before
    recipes = recipes_for(config.generator.name)
    everything = config.model_copy(
        update={"conditioning": config.conditioning.model_copy(update={"recipe": recipes})},
    )
    with progress("images") as told:
        dataset = load_training_images(config, progress=told)
        lines = preview(everything, dataset, load_generator(config.generator), progress=told)
    write_atomically(sheet, contact_sheet(lines, recipes))
