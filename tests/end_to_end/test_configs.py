"""Every ready config on a small copy of its data, through plan, generate, train and evaluate.

The configs are run as they are but for what makes them large: the fake generator in place of the real one, few images,
few steps, and a network that needs no download.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import timm

from augcond.config import load_config
from augcond.datasets import load_dataset
from augcond.experiments.axes import axes_of
from augcond.experiments.forecast import forecast_sweep
from augcond.experiments.sweep import cells_of
from augcond.generators import check_options, check_recipes, load_generator
from augcond.pipeline import generate, load_training_images, plan_for, run
from augcond.store import RunFolder, audit_run
from augcond.store.export import finished_rows
from augcond.testing import save_tiny_flux2_klein, save_tiny_stable_unclip
from tests.datasets import layouts
from tests.toy import write_photos

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
FEW_SHOT = ("pascal-voc", "coco", "caltech101", "flowers102")

FAST = [
    "generator.name=fake",
    "generator.model=fake",
    "generator.own=null",
    "output.size=null",
    "output.format=auto",
    "training.image_size=null",
    "training.steps=4",
    "training.batch_size=8",
    "training.seeds=1",
    "training.device=cpu",
    "training.precision=no",
    "evaluation.bootstrap=20",
]
PROBE = ["training.model=generator", "training.weights=null", "training.views=1"]
NETWORK = ["training.mode=scratch", "training.model=small-cnn", "training.weights=null"]
ONE_SHOT = ["data.split.k=1", "data.split.validation_per_class=1", "plan.per_class=1", *PROBE]
TWO_ARMS = (
    "training.arms=[{name: real-only}, {name: embed-cutmix-dropout, recipe: embed-cutmix-dropout}]",
    "conditioning.recipe=[real-guidance, embed-cutmix-dropout]",
)

ALIKE = ("compare-generators", "photos-flux2-klein")
"""As `photos` but for the generators, and run by tests of their own."""

SMALLER = {
    **{name: [*ONE_SHOT, *TWO_ARMS] for name in FEW_SHOT},
    "imagenet-lt": ["plan.fill_to=6", *NETWORK],
    "places-lt": ["plan.fill_to=5", *NETWORK],
    "photos": ["plan.per_class=2", *PROBE],
    "world": ["plan.fill_to=4", "data.split.head=4", "data.split.imbalance=4", "conditioning.recipe=dropout"],
}

PLANNED = {
    "imagenet-lt": {"n01440764": 1, "n01443537": 3, "n01484850": 4, "n15075141": 5},  # 6 - (5, 3, 2, 1)
    "places-lt": {"airfield": 1, "apartment_building-outdoor": 3, "zen_garden": 4},  # 5 - (4, 2, 1)
    "pascal-voc": 20 * 2,
    "coco": 4 * 2,
    "caltech101": 3 * 2,
    "flowers102": 102 * 2,
    "photos": {"cat": 6, "dog": 6},  # 2 by each of 3 recipes
    "world": 10 * 4 - 22,  # from a tail of 4, 3, 3, 3, 2, 2, 2, 1, 1, 1
}
TESTED = {
    "imagenet-lt": 8,
    "places-lt": 3,
    "pascal-voc": 20,
    "coco": 4,
    "caltech101": 2 + 2 + 3,
    "flowers102": 102,
    "photos": 2,
    "world": 3000,
}

ARMS = {"imagenet-lt": 3, "photos": 4}
"""Real-only and one per recipe, or as the config names them; two elsewhere."""


def data_for(name: str, root: Path) -> list[str]:
    """Write a small copy of the data of a config; return the overrides that name it."""
    if name == "world":
        return []
    if name == "photos":
        write_photos(root / "train", {"cat": 3, "dog": 4})
        for class_id, seed in (("cat", 1000), ("dog", 2000)):
            layouts.put(root / "test" / class_id / "1.jpg", layouts.jpeg(seed))
        return [f"data.path={root / 'train'}", f"data.test={root / 'test'}"]
    return [f"data.path={layouts.LAYOUTS[name](root)}"]


def load(name: str, root: Path, *overrides: str):
    overrides = (*FAST, *SMALLER[name], *data_for(name, root / "data"), f"run={root / 'run'}", *overrides)
    return load_config(CONFIGS / f"{name}.yaml", overrides)


def test_there_is_a_config_for_every_benchmark():
    assert sorted([*SMALLER, *ALIKE]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_configs_name_real_networks_and_the_paper_s_settings(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.training.model == "small-cnn" or timm.is_model(config.training.model.partition(".")[0])
    if name in FEW_SHOT:
        assert (config.generator.guidance_scale, config.plan.per_class) == (10.0, 16)
        assert config.prompt == ("a photo of a {class_name}",)
        training = config.training
        assert (training.mode, training.optimizer, training.lr, training.steps, training.batch_size) == (
            "linear-probe",
            "adam",
            1e-4,
            50 * 200,
            32,
        )
    if name == "imagenet-lt":
        assert (config.generator.guidance_scale, config.plan.fill_to, config.prompt) == (2.0, 1280, ("{class_name}",))
        assert config.training.steps == 150 * -(-1_164_154 // 256)
        assert (config.training.loss, config.training.counts, config.training.mix) == (
            "balanced-softmax",
            "real",
            "exact",
        )


@pytest.mark.parametrize("name", SMALLER)
def test_a_config_runs_from_plan_to_results(name, tmp_path):
    config = load(name, tmp_path)
    plan = plan_for(config, load_training_images(config))
    planned = PLANNED[name]
    if isinstance(planned, int):
        assert len(plan) == planned
    else:
        assert Counter(row.class_id for row in plan.rows()) == planned

    results = run(config)
    audit = audit_run(RunFolder(config.run))
    assert not audit.problems
    assert (audit.ok, audit.failed) == (len(plan), 0)
    assert {arm.name for arm in results.arms} >= {"real-only"}
    assert len(results.arms) == ARMS.get(name, 2)
    written = json.loads((config.run / "results.json").read_text())
    assert written["test_images"] == TESTED[name]
    # Results are measured on real images that no generation saw.
    if name in FEW_SHOT:
        sources = {key for row in plan.rows() for key in row.source_keys}
        split = json.loads((config.run / "split.json").read_text())
        assert sources <= set(split["train"])
        assert len(split["train"]) == len(split["validation"]) == len(load_dataset(config.data).classes)


def test_klein_s_config_with_a_tiny_pipeline_of_the_real_class(tmp_path):
    model = save_tiny_flux2_klein(tmp_path / "model")
    tiny = (f"generator.model={model}", "generator.size=64", "generator.device=cpu", "output.size=64")
    data = (*data_for("photos", tmp_path), "plan.per_class=1", f"run={tmp_path / 'run'}")
    config = load_config(CONFIGS / "photos-flux2-klein.yaml", (*tiny, *data))
    assert "image-pair" in config.conditioning.recipe
    summary = generate(config)
    assert (summary.ok, summary.failed) == (2 * len(config.conditioning.recipe), 0)
    rows = [row for _, row in finished_rows(RunFolder(config.run), RunFolder(config.run).read_plan())]
    pairs = [row for row in rows if row["recipe"] == "image-pair"]
    assert [(row["lam"], row["share"], len(row["source_keys"])) for row in pairs] == [(None, 0.5, 2)] * 2


def test_generators_are_compared_on_equal_seeds(tmp_path):
    write_photos(tmp_path / "train", {"cat": 20, "dog": 20})
    write_photos(tmp_path / "test", {"cat": 1, "dog": 1})
    places = (f"data.path={tmp_path / 'train'}", f"data.test={tmp_path / 'test'}", f"run={tmp_path / 'run'}")
    config = load_config(CONFIGS / "compare-generators.yaml", places)
    cells = cells_of(config, axes_of(config), config.sweep.seeds)
    made = [cell for cell in cells if any(arm.recipe for arm in cell.config.training.arms)]
    names = [name for name in config.sweep.over["generator"]]
    assert len(made) == 3 * len(names)
    for seed in range(3):
        alike = [cell.config for cell in made if cell.seed == seed]
        assert [each.generator.name for each in alike] == names
        assert {(each.plan.seed, each.data.split.seed, each.training.seeds) for each in alike} == {
            (seed, seed, (seed,))
        }
    for cell in made:
        check_options(cell.config.generator)
        check_recipes(cell.config.generator, cell.config.conditioning)
    rows = {cell.arm_name(arm.name, arm.recipe) for cell in made for arm in cell.config.training.arms}
    assert set(config.evaluation.primary) < rows
    found = forecast_sweep(config, axes_of(config), config.sweep.seeds)
    assert [point.each.total for point in found] == [2 * 64 * 5] * len(names)
    assert not any(entry.error for point in found for entry in point.each.missing)


def test_a_config_with_a_tiny_pipeline_of_the_real_class(tmp_path):
    model = save_tiny_stable_unclip(tmp_path / "model")
    tiny = ("generator.name=stable-unclip", f"generator.model={model}", "generator.steps=2", "generator.device=cpu")
    config = load("coco", tmp_path, *tiny)
    assert load_generator(config.generator).identity.name == "stable-unclip"
    results = run(config)
    assert len(results.arms) == 2
    folder = RunFolder(config.run)
    rows = [row for _, row in finished_rows(folder, folder.read_plan())]
    assert {row["prompt"] for row in rows} == {f"a photo of a {name}" for name in layouts.COCO_CATEGORIES.values()}
    assert {row["guidance_scale"] for row in rows} == {10.0}
