"""THE MAP: every stage, called once, in order.

    dataset -> plan -> conditioning -> generator -> engine -> store

`generate` is the main job; the functions below it look at a run or at what a run would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from augcond.conditioning import check_settings
from augcond.config import RunConfig
from augcond.datasets import Dataset, load_dataset
from augcond.engine import Job, LocalEngine, Materials, NoProgress, Progress, Summary
from augcond.generators import Generator, load_generator
from augcond.planning import Plan, make_plan
from augcond.store.fingerprint import image_settings
from augcond.store.folder import RunFolder, RunPlan, plan_run, settle_plan
from augcond.store.images import ImageFormat
from augcond.store.locks import exclusive
from augcond.store.reuse import ReusableRows
from augcond.store.schema import GenerationSettings


def generate(
    config: RunConfig,
    *,
    part: tuple[int, int] = (1, 1),
    reuse: Sequence[Path] = (),
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Make every image of the run that is not there yet; call it again to resume after any interruption.

    Args:
        config: the run.
        part: (i, n): this process makes the i-th of n parts; others may work beside it.
        reuse: other run folders; their images are taken where they are defined by the same.
        overwrite: delete the images of another config that the run folder holds.
        retry_failed: try rows again that failed before.
        progress: is told how far the work is.

    Raises:
        DatasetError: the real images cannot be used.
        PlanError: no plan can be made of them.
        RunMismatchError: the run folder holds a run of another config.
        RunLockedError: another process works on this part.
        RunError: most rows of a shard failed.
    """
    folder = RunFolder(config.run)
    folder.create()
    with exclusive(folder.locks / "plan.lock"):
        # Of several parts that start together one decodes the images, and the others take its word.
        folder.remove_temporary()
        dataset = load_dataset(config.data, cache=folder.decoded_path)
    plan = plan_for(config, dataset)
    generator = load_generator(config.generator)
    run_plan, materials = assemble(config, dataset, plan, generator)
    with exclusive(folder.locks / "plan.lock"):
        if overwrite:
            with exclusive(folder.locks / "parts.lock", f"other processes work on {folder.path}: stop them first"):
                folder.clear()
        run_plan = settle_plan(folder, run_plan, dataset, shard_size=config.engine.shard_size)
        folder.write_plan(run_plan, config, dataset)
    others = [RunFolder(path) for path in reuse] + ([folder] if retry_failed else [])
    hashes = {image.key: image.sha256 for image in dataset.images}
    return LocalEngine().run(
        Job(
            folder=folder,
            plan=run_plan,
            materials=materials,
            batch_size=config.engine.batch_size,
            max_failed_share=config.engine.max_failed_share,
            part=part[0],
            parts=part[1],
            retry_failed=retry_failed,
            reuse=ReusableRows(run_plan, hashes, others) if others else None,
            progress=progress or NoProgress(),
        )
    )


def plan_for(config: RunConfig, dataset: Dataset) -> Plan:
    """Return the plan of a run on `dataset`.

    Raises:
        ConfigError: a parameter of the conditioning does not apply to the run's recipes.
        PlanError: a class that is to get images has no real one to be conditioned on.
    """
    check_settings(config.conditioning)
    return make_plan(
        dataset,
        config.plan,
        config.conditioning,
        prompts=config.prompt,
        shard_size=config.engine.shard_size,
    )


def assemble(config: RunConfig, dataset: Dataset, plan: Plan, generator: Generator) -> tuple[RunPlan, Materials]:
    """Return `plan` with the settings and fingerprints of its shards, and what its rows are made with."""
    image_format = ImageFormat.resolve(config.output, generator.image_size)
    identity = generator.identity
    run_plan = plan_run(
        plan,
        image_settings(config, identity, dataset.decoding, image_format),
        GenerationSettings(
            guidance_scale=config.generator.guidance_scale,
            steps=config.generator.steps,
            generator=f"{identity.name}:{identity.model}",
            revision=identity.revision,
            extension=image_format.extension,
        ),
        dataset,
    )
    return run_plan, Materials(dataset.reader, dataset.decoding, config.conditioning, generator, image_format)
