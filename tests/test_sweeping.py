"""Sweeps: the right cells, images shared, one table, resumable."""

import csv
import json

import pytest

from augcond.errors import ConfigError
from augcond.evaluation.results import read_results
from augcond.sweeping import _alike, cells_of, parse_axis, sweep
from tests.training.toys import toy_run


def names(config, *axes, seeds=1):
    cells = cells_of(config, [parse_axis(axis) for axis in axes], seeds)
    return [cell.config.run.relative_to(config.run / "cells").as_posix() for cell in cells]


def test_axes_are_yaml():
    assert parse_axis("generator.guidance_scale=2,4.5").values == (2, 4.5)
    assert parse_axis("conditioning.recipe=text,[image, mixup]").values == ("text", ["image", "mixup"])
    for wrong in ("generator.steps", "=3", "generator.steps=", "generator.steps=3,3", "generator.steps=[1"):
        with pytest.raises(ConfigError, match="--over"):
            parse_axis(wrong)


def test_a_grid_has_real_images_alone_once_per_seed(tmp_path):
    config = toy_run(tmp_path)
    assert names(config, "generator.guidance_scale=2,4", "conditioning.recipe=text,mixup", seeds=2) == [
        "real/base/seed-0",
        "real/base/seed-1",
        *(
            f"synthetic/generator.guidance_scale={scale},conditioning.recipe={recipe}/seed-{seed}"
            for seed in (0, 1)
            for scale in (2, 4)
            for recipe in ("text", "mixup")
        ),
    ]
    assert names(config, "training.lr=0.1,0.2") == [
        "real/training.lr=0.1/seed-0",
        "real/training.lr=0.2/seed-0",
        "synthetic/training.lr=0.1/seed-0",
        "synthetic/training.lr=0.2/seed-0",
    ]
    assert names(config, "plan.per_class=0,2") == ["real/base/seed-0", "synthetic/plan.per_class=2/seed-0"]


def test_arms_of_real_images_follow_what_they_depend_on(tmp_path):
    config = toy_run(tmp_path, data={"split": {"name": "few-shot", "k": 3}})
    assert names(config, "data.split.k=1,2", "generator.steps=3,4")[:2] == [
        "real/data.split.k=1/seed-0",
        "real/data.split.k=2/seed-0",
    ]
    assert names(config, "leaks=[],[best-epoch]")[:2] == ["real/leaks=/seed-0", "real/leaks=best-epoch/seed-0"]


def test_leaky_and_honest_arms_in_one_table(tmp_path):
    config = toy_run(
        tmp_path,
        data={"split": {"name": "few-shot", "k": 3}},
        conditioning={"recipe": "image"},
        training={"steps": 2},
    )
    results = sweep(config, [parse_axis("leaks=[],[fixed-training-subset]")], seeds=1, part="test")
    assert {arm.name: arm.leaky for arm in results.arms} == {
        "real-only leaks=": False,
        "real-only leaks=fixed-training-subset": True,
        "image leaks=": False,
        "image leaks=fixed-training-subset": True,
    }
    assert {(gain.arm, gain.baseline) for gain in results.differences} == {
        ("image leaks=", "real-only leaks="),
        ("image leaks=fixed-training-subset", "real-only leaks=fixed-training-subset"),
    }
    table = (config.run / "sweep.md").read_text()
    assert table.count("(leaky)") == 2


def test_a_seed_of_the_sweep_is_that_of_split_plan_and_training(tmp_path):
    config = toy_run(tmp_path, data={"split": {"name": "few-shot", "k": 3, "seed": 5}}, plan={"seed": 2})
    last = cells_of(config, [parse_axis("plan.fill_to=6,9")], seeds=2)[-1].config
    assert (last.data.split.seed, last.plan.seed, last.training.training_seeds) == (6, 3, (1,))
    assert (last.plan.fill_to, last.plan.per_class) == (9, None)


def test_wrong_axes_are_config_errors(tmp_path):
    config = toy_run(tmp_path)
    with pytest.raises(ConfigError, match=r"generator\.guidance: unknown key"):
        names(config, "generator.guidance=2,3")
    with pytest.raises(ConfigError, match="a sweep sets this itself"):
        names(config, "training.seeds=2,3")
    with pytest.raises(ConfigError, match="a protocol is a preset"):
        names(config, "protocol=few-shot,published")


def test_images_are_taken_from_runs_of_equal_settings_and_seed(tmp_path):
    cells = cells_of(toy_run(tmp_path), [parse_axis("generator.steps=2,3"), parse_axis("plan.per_class=2,4")], seeds=2)
    made = [cell for cell in cells if "synthetic" in str(cell.config.run)]
    last = made[-1]
    assert [path.parent.name for path in _alike(last, made[:-1])] == ["generator.steps=3,plan.per_class=2"]
    assert all(path.name == "seed-1" for path in _alike(last, made[:-1]))


def test_a_sweep_ends_in_one_table_and_resumes(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"}, training={"steps": 1})
    axes = [parse_axis("plan.per_class=0,2,4")]
    results = sweep(config, axes, seeds=2)
    assert [arm.name for arm in results.arms] == ["real-only", "mixup per_class=2", "mixup per_class=4"]
    assert [arm.synthetic_images for arm in results.arms] == [0, 6, 12]
    assert [len(arm.seeds) for arm in results.arms] == [2, 2, 2]
    assert results.part == "validation"
    assert {(gain.arm, gain.baseline, gain.seeds) for gain in results.differences} == {
        ("mixup per_class=2", "real-only", 2),
        ("mixup per_class=4", "real-only", 2),
    }
    assert read_results(config.run / "sweep.json") == results
    for arm in results.arms:
        for seed in arm.seeds:
            assert (config.run / seed.predictions).is_file()
    with (config.run / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["overall"]) for line in lines] == [arm.mean.overall for arm in results.arms]
    assert lines[1]["baseline"] == "real-only"
    assert "| mixup per_class=4 | 2 | 12 |" in (config.run / "sweep.md").read_text()
    weights = {path: path.stat().st_mtime_ns for path in config.run.rglob("model.safetensors")}
    assert len(weights) == 6
    assert sweep(config, axes, seeds=2) == results
    assert weights == {path: path.stat().st_mtime_ns for path in config.run.rglob("model.safetensors")}
    # The larger plan took the smaller one's images instead of making them anew.
    markers = sorted((config.run / "cells/synthetic/plan.per_class=4/seed-0/shards").glob("*.json"))
    assert sum(json.loads(path.read_text())["ok"] for path in markers) == 12
