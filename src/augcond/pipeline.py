"""THE MAP: every stage, called once, in order.

    dataset -> split -> plan -> conditioning -> generator -> engine -> store
        -> screening -> training -> evaluation -> report

What is cheap to check is checked before anything dear (`augcond.checks`). `generate`, `train` and `evaluate` are the
main jobs, and `run` is all of them and the report; the functions below them look at what a run would be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from augcond.amounts import checked_amounts
from augcond.checks import EVERYTHING, ensure_ready
from augcond.conditioning import check_conditioning
from augcond.config import RunConfig
from augcond.datasets import Dataset, load_dataset
from augcond.datasets.splits import draw_split, settle_split, source_images
from augcond.engine import Engine, Job, Materials, Summary, load_engine
from augcond.engine.looking import embed_sources, led_away, similar_other_classes
from augcond.errors import CorruptRunError
from augcond.evaluation.evaluator import evaluate_models
from augcond.evaluation.results import Results
from augcond.generators import Generator, check_recipes, load_generator
from augcond.generators.base import Traits
from augcond.generators.devices import on_cpu
from augcond.guest import as_guest
from augcond.nearness import SourceFeatures
from augcond.planning import Plan, make_plan
from augcond.progress import NoProgress, Progress, Stage, no_stage
from augcond.screening.screen import screened_out
from augcond.store.claims import PLAN, training_claim
from augcond.store.fingerprint import as_begun, image_settings, with_kept_defaults
from augcond.store.folder import RunFolder
from augcond.store.images import ImageFormat
from augcond.store.plans import RunPlan, digest_inputs, mark_large, plan_run, recorded_settings, settle_plan
from augcond.store.rejection import rejected_keys
from augcond.store.shards import GenerationSettings
from augcond.tracking import current, tracked
from augcond.training.arms import HeldOut, arms_of
from augcond.training.cards import ModelCard
from augcond.training.devices import find_rank
from augcond.training.experiment import check_test_images, load_experiment
from augcond.training.trainer import train_arms

logger = logging.getLogger(__name__)


@as_guest
@tracked
def generate(
    config: RunConfig,
    *,
    reuse: Sequence[Path] = (),
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Make every image of the run that is not there yet; call it again to resume after any interruption.

    Other processes may do the same beside it, here or on other machines that see the run folder: each makes what no
    other has claimed.

    Args:
        config: the run.
        reuse: other run folders; their images are taken where they are defined by the same.
        overwrite: delete the images of another config that the run folder holds, and all that was made of them.
        retry_failed: try rows again that failed before.
        progress: is told how many real images are read, and then how many are made.

    Raises:
        DatasetError: the real images cannot be used.
        LeakError: test images are training images, stored otherwise.
        PlanError: no plan can be made of them.
        RunMismatchError: the run folder holds a run of another config.
        RunLockedError: `overwrite`, and other processes work on the run.
        RunError: most rows of a shard failed.
    """
    ensure_ready(config, {"generate"})
    with closing(load_engine(config.engine.name)) as engine:
        job = _planned(config, engine, overwrite=overwrite, progress=progress or NoProgress())
        told = current().progress(job.progress)
        summary = engine.run(replace(job, retry_failed=retry_failed, reuse=tuple(reuse), progress=told))
        _track(summary, job.folder)
    if not job.folder.plans(job.plan):
        # It stood still for so long that another one took its claim, and then wrote what it had meant to.
        logger.warning("another process has written an older plan meanwhile: its rows are planned again")
        return summary.then(generate(config, reuse=reuse, retry_failed=retry_failed, progress=progress))
    return summary


def _track(summary: Summary, folder: RunFolder) -> None:
    """Tell trackers what was made, and show some of it."""
    if not summary.shards or not current().asks:
        return
    from augcond.report.dataset_card import draw_samples
    from augcond.report.facts import read_facts

    current().numbers({"generation/ok": summary.ok, "generation/failed": summary.failed}, summary.ok + summary.failed)
    current().table("generation/reasons", ["reason", "rows"], [[text, str(n)] for text, n in summary.reasons.items()])
    if summary.ok:
        current().picture("generation/samples", draw_samples(rejected_keys(folder), read_facts(folder)))


def _planned(config: RunConfig, engine: Engine, *, overwrite: bool, progress: Progress) -> Job:
    """Return the work on a run, whose plan lies in its folder then; see `generate`."""
    folder = RunFolder(config.run)
    folder.create()
    if folder.plan_path.exists() and not overwrite:
        config = as_begun(config, recorded_settings(folder.plan_path))
        with suppress(CorruptRunError):  # it is written anew
            config = with_kept_defaults(config, folder.read_config())
    with folder.claims() as claims:
        with claims.held(PLAN):
            # Of several processes that start together one decodes the images, and the others take its word.
            folder.remove_temporary()
            pool = load_dataset(config.data, cache=folder.decoded_path(), progress=progress)
        split = draw_split(config, pool)
        # Only training images of the split are ever sources.
        dataset = source_images(config, pool, split)
        with claims.held(PLAN):
            check_test_images(config, pool, split, dataset)
        count = count_rows(config, dataset)
        # Where others make the rows, all that is asked of the generator here is what it is.
        generator = load_generator(config.generator, images=count) if engine.makes_here(config) else None
        traits = engine.traits(config, count) if generator is None else generator.traits
        dataset = mark_large(dataset, traits)
        threads = engine.threads(config)
        inputs = digest_inputs(config, dataset, traits, _image_settings(config, dataset, traits), threads)
        with claims.held(PLAN):
            if overwrite:
                claims.refuse_others(f"other processes work on {folder.path}: stop them first")
                folder.clear(kept=config.plan.rounds)  # which are made of it
            settle_split(folder.split_path, split)
            run_plan = folder.read_plan_of(inputs)
            if run_plan is not None:
                folder.write_config(config)
            else:
                features = look_at_sources(config, dataset, generator)
                wanted = plan_in_full(config, dataset, plan_for(config, dataset, features), traits, features)
                wanted = replace(wanted, threads=threads, inputs=inputs)
                run_plan = settle_plan(folder, wanted, dataset, shard_size=config.engine.shard_size)
                folder.write_plan(run_plan, config, dataset)
    materials = None if generator is None else materials_of(config, dataset, generator)
    return Job(config, folder, run_plan, materials, progress=progress)


@as_guest
@tracked
def train(config: RunConfig, *, overwrite: bool = False, progress: Progress | None = None) -> list[ModelCard]:
    """Train every arm of the run with every training seed; call it again to resume after any interruption.

    Args:
        config: the run, generated to the end (arms of real images alone need no generation).
        overwrite: train models anew that were trained with other settings or images.
        progress: is told how many optimiser steps are done.

    Returns:
        What each model is; they lie in RUN/models.

    Raises:
        LeakError: a synthetic image's source is no training image, or a training image is held out too.
        RunMismatchError: the run has another split, or a model was trained with other settings.
        RunLockedError: another process trains the run.
        RunError: the run is not generated to the end.
        TrainingError: a training cannot be done, or diverged.
    """
    ensure_ready(config, {"train"})
    folder = RunFolder(config.run)
    folder.create()
    # As long as it stands, no worker removes a shard that is read here.
    mine = training_claim(find_rank(config.training).number)
    with folder.claims() as claims, claims.held(mine, f"another process trains {folder.path}: wait for it"):
        experiment = load_experiment(config, progress)
        if not folder.config_path.exists():
            # A run of real images alone, which nothing was generated for.
            folder.write_config(config)
        synthetic = any(arm.kind == "synthetic" for arm in arms_of(config))
        dropped = screened_out(experiment, progress) if synthetic else ()
        return train_arms(experiment, dropped=dropped, overwrite=overwrite, progress=progress)


@as_guest
@tracked
def evaluate(config: RunConfig, *, on: HeldOut = "test", progress: Progress | None = None) -> Results:
    """Judge every trained model on the test set, each image once, and write RUN/results.json.

    Args:
        config: the run.
        on: `test`; or `validation`, to choose on, which writes RUN/validation.json.
        progress: is told how many models are judged.

    Raises:
        LeakError: see `train`; or test images are training images.
        RunError: there is no trained model.
        ConfigError: the config names no test images.
    """
    ensure_ready(config, {"evaluate"}, on)
    return evaluate_models(load_experiment(config, progress), on=on, progress=progress)


@as_guest
@tracked
def run(
    config: RunConfig,
    *,
    reuse: Sequence[Path] = (),
    progress: Stage = no_stage,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Results:
    """Generate, train, evaluate and write the report; call it again to resume after any interruption.

    Args:
        config: the run; where it trains on real images alone, there is nothing to report on but the results.
        reuse: see `generate`.
        progress: see `augcond.progress.Stage`.
        on_stage: told what the report does.

    Raises:
        AugcondError: as the stages do.
    """
    from augcond.report import write_report  # what draws takes seconds to import

    synthetic = any(arm.kind == "synthetic" for arm in arms_of(config))
    ensure_ready(config, EVERYTHING if synthetic else {"train", "evaluate"})
    if synthetic:
        with progress("images") as told:
            generate(config, reuse=reuse, progress=told)
    with progress("training steps") as told:
        train(config, progress=told)
    with progress("models judged") as told:
        results = evaluate(config, progress=told)
    if synthetic:
        write_report(RunFolder(config.run), on_stage=on_stage)
    return results


def load_training_images(config: RunConfig, *, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """Return the real images that a run may be conditioned on: the training images of its split.

    Args:
        config: the run.
        cache: see `augcond.datasets.verify`.
        progress: see `augcond.datasets.verify`.

    Raises:
        DatasetError: the real images cannot be used, or are too few for the split.
    """
    pool = load_dataset(config.data, cache=cache, progress=progress)
    return source_images(config, pool, draw_split(config, pool))


def count_rows(config: RunConfig, dataset: Dataset) -> int:
    """Return how many rows the plan of a run on `dataset` has.

    Raises:
        ConfigError: a parameter of the conditioning does not apply to the run's recipes, or the generator does not take
            what a recipe conditions it by.
        PlanError: a class that is to get images has no real one to be conditioned on.
    """
    check_conditioning(config.conditioning)
    check_recipes(config.generator, config.conditioning)
    return sum(checked_amounts(dataset, config.plan, config.conditioning)) * len(config.conditioning.recipe_names)


def look_at_sources(config: RunConfig, dataset: Dataset, generator: Generator | None) -> SourceFeatures | None:
    """Return what the image encoder says of the training images, where the plan of a run depends on it; else None.

    Args:
        config: the run.
        dataset: its training images.
        generator: of its config; None where others make the rows: then it is loaded here, on the CPU, for this alone.
    """
    if config.conditioning.neighbours is None and config.generator.away_from is None:
        return None
    return embed_sources(dataset, generator or load_generator(on_cpu(config.generator)))


def plan_for(config: RunConfig, dataset: Dataset, features: SourceFeatures | None = None) -> Plan:
    """Return the plan of a run on `dataset`.

    Args:
        config: the run.
        dataset: its training images.
        features: see `make_plan`.

    Raises:
        ConfigError: see `count_rows`.
        PlanError: see there, too.
    """
    count_rows(config, dataset)
    return make_plan(
        dataset,
        config.plan,
        config.conditioning,
        prompts=config.prompt,
        shard_size=config.engine.shard_size,
        features=features,
    )


def assemble(config: RunConfig, dataset: Dataset, plan: Plan, generator: Generator) -> tuple[RunPlan, Materials]:
    """Return `plan` with the settings and fingerprints of its shards, and what its rows are made with."""
    features = look_at_sources(config, dataset, generator)
    run_plan = plan_in_full(config, dataset, plan, generator.traits, features)
    labels = {image.key: image.label for image in dataset.images}
    return run_plan, led_away(materials_of(config, dataset, generator), run_plan, labels)


def plan_in_full(
    config: RunConfig, dataset: Dataset, plan: Plan, traits: Traits, features: SourceFeatures | None = None
) -> RunPlan:
    """Return `plan` with the settings and fingerprints of its shards; `features` as `look_at_sources` gives them."""
    away_from = similar_other_classes(dataset, features) if features and config.generator.away_from else {}
    check_recipes(config.generator, config.conditioning, traits)
    identity = traits.identity
    return plan_run(
        plan,
        _image_settings(config, dataset, traits, away_from),
        GenerationSettings(
            guidance_scale=config.generator.guidance_scale,
            steps=config.generator.steps,
            generator=f"{identity.name}:{identity.model}",
            revision=identity.revision,
            extension=ImageFormat.resolve(config.output, traits.image_size).extension,
            away_from={class_id: other for class_id, (other, _) in away_from.items()},
        ),
        dataset,
        traits.image_size if config.generator.size is None else traits.native_size,
    )


def materials_of(config: RunConfig, dataset: Dataset, generator: Generator) -> Materials:
    """Return what the rows of a run are made with."""
    image_format = ImageFormat.resolve(config.output, generator.image_size)
    return Materials(dataset.reader, dataset.decoding, config.conditioning, generator, image_format)


def _image_settings(
    config: RunConfig, dataset: Dataset, traits: Traits, away_from: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Any]:
    image_format = ImageFormat.resolve(config.output, traits.image_size)
    return image_settings(config, traits.identity, dataset.decoding, image_format, traits.image_size, away_from)
