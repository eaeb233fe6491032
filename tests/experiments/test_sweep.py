"""Sweeps: the right cells, images shared, one table, resumable."""

import csv
import json

import pytest
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import ConfigError, RunError
from augcond.evaluation.results import read_results
from augcond.experiments.axes import axes_of, parse_axis
from augcond.experiments.forecast import forecast_sweep
from augcond.experiments.sweep import _alike, cells_of, sweep
from augcond.pipeline import generate, train
from tests.training.toys import toy_run


def names(config, *axes, seeds=1):
    cells = cells_of(config, [parse_axis(axis) for axis in axes], seeds)
    return [cell.config.run.relative_to(config.run / "cells").as_posix() for cell in cells]


def test_axes_are_yaml():
    assert parse_axis("generator.guidance_scale=2,4.5").values == (2, 4.5)
    assert parse_axis("conditioning.recipe=text,[image, mixup]").values == ("text", ["image", "mixup"])
    steps = ("generator.steps=", "generator.steps=3,3", "generator.steps=[1", 'generator.steps=3,"3"')
    for wrong in ("generator.steps", "=3", *steps):
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


def test_a_sweep_and_a_run_have_a_folder_each(tmp_path):
    config = toy_run(tmp_path, training={"steps": 1, "seeds": 1}, plan={"per_class": 1})
    axes = [parse_axis("plan.per_class=0,1")]
    sweep(config, axes, seeds=1)
    for stage in (generate, train):
        with pytest.raises(RunError, match=r"run holds a sweep: name another folder, as with --set run=.*run-run"):
            stage(config)
    other = config.model_copy(update={"run": tmp_path / "other"})
    generate(other)
    before = sorted(other.run.rglob("*"))
    for stage in (sweep, forecast_sweep):
        with pytest.raises(RunError, match=r"other holds a run, .*: add --set run=.*other-sweep"):
            stage(other, axes, seeds=1)
    assert sorted(other.run.rglob("*")) == before


def test_probes_of_the_generator_follow_the_generator(tmp_path):
    probe = {"model": "generator", "mode": "linear-probe"}
    arms = [{"name": "real-only"}, {"name": "probe", "overrides": probe}, {"name": "text", "recipe": "text"}]
    config = toy_run(tmp_path, training={"arms": arms, "steps": 1}, conditioning={"recipe": "text"})
    cells = cells_of(config, [parse_axis("generator.steps=3,4"), parse_axis("training.lr=0.1")], seeds=1)
    assert [(dict(cell.point), [arm.name for arm in cell.config.training.arms]) for cell in cells] == [
        ({"training.lr": 0.1}, ["real-only"]),
        ({"generator.steps": 3, "training.lr": 0.1}, ["probe"]),
        ({"generator.steps": 4, "training.lr": 0.1}, ["probe"]),
        ({"generator.steps": 3, "training.lr": 0.1}, ["text"]),
        ({"generator.steps": 4, "training.lr": 0.1}, ["text"]),
    ]
    # Where nothing of the generator differs, they share one run with the others; and any arm may be such a probe.
    assert names(config, "plan.per_class=2") == ["real/base/seed-0", "synthetic/plan.per_class=2/seed-0"]
    assert names(toy_run(tmp_path, training=probe), "generator.steps=3")[0] == "real/generator.steps=3/seed-0"
    results = sweep(config, [parse_axis("generator.steps=3,4")], seeds=1)
    assert {(gain.arm, gain.baseline) for gain in results.differences} == {
        (f"{arm} steps={steps}", "real-only") for arm in ("probe", "text") for steps in (3, 4)
    }


def named(root, **over):
    return toy_run(root, plan={"per_class": 1}, training={"steps": 1}, sweep={"over": over, "seeds": 2})


def test_generators_are_compared_under_names_that_the_config_gives_them(tmp_path):
    """Each with its own settings: those that one of them leaves out are the defaults."""
    generators = {"small": {"name": "fake", "steps": 3}, "large": {"name": "fake", "size": 32}}
    config = named(tmp_path, generator=generators, **{"conditioning.recipe": ["text", "dropout"]})
    (first, second) = axes_of(config)
    assert (first.values, second.values) == (("small", "large"), ("text", "dropout"))
    cells = cells_of(config, [first, second], config.sweep.seeds)
    made = [cell for cell in cells if "synthetic" in str(cell.config.run)]
    assert [(cell.point["generator"], cell.seed, cell.config.generator.size) for cell in made[::2]] == [
        ("small", 0, None),
        ("large", 0, 32),
        ("small", 1, None),
        ("large", 1, 32),
    ]
    assert [cell.config.generator.steps for cell in made[::2]] == [3, 20, 3, 20]
    assert all(cell.config.sweep is None for cell in cells)
    assert made[0].config.run.parent.name == "generator=small,conditioning.recipe=text"
    assert made[1].arm_name("dropout", "dropout") == "dropout generator=small"
    with pytest.raises(ConfigError, match=r"generator\.stps: unknown key; did you mean 'steps'"):
        cells_of(config, axes_of(named(tmp_path, generator={"wrong": {"name": "fake", "stps": 3}})), 1)
    with pytest.raises(ConfigError, match=r"sweep\.over\.generator"):
        named(tmp_path, generator={"no section": 5})
    assert axes_of(toy_run(tmp_path)) == []


def test_a_sweep_is_forecast_point_by_point(tmp_path):
    config = named(tmp_path, generator={"small": {"name": "fake"}, "large": {"name": "fake", "size": 32}})
    found = forecast_sweep(config, axes_of(config), 2)
    expected = 2 * found[0].each.classes  # one image each, by two recipes
    assert [(point.name, point.seeds, point.each.total) for point in found] == [
        ("generator=small", 2, expected),
        ("generator=large", 2, expected),
    ]
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    said = CliRunner().invoke(app, ["sweep", str(path), "--dry", "--json"])
    assert [(point["name"], point["seeds"], point["total"]) for point in json.loads(said.stdout)] == [
        (point.name, point.seeds, point.each.total) for point in found
    ]
    assert (
        "generator=large, with 2 seeds; each of them:" in CliRunner().invoke(app, ["sweep", str(path), "--dry"]).stdout
    )
    none = CliRunner().invoke(app, ["sweep", str(path), "--set", "sweep=null"])
    assert isinstance(none.exception, ConfigError)
    assert "has no `sweep:` that says what is varied" in str(none.exception)
    assert not config.run.exists()


def test_a_point_has_a_folder_of_its_own(tmp_path):
    config = toy_run(tmp_path, training={"arms": [{"name": "text", "recipe": "text"}]})
    first, second, longest = names(
        config, f'prompt="a photo: {{class_name}}","a photo; {{class_name}}","{"é" * 300} {{class_name}}"'
    )
    assert first != second
    assert first.startswith("synthetic/prompt=a_photo___class_name_-")
    assert len(longest.split("/")[1].encode()) <= 255
    assert names(config, 'prompt="a photo; {class_name}"') == [second]
    assert names(config, "generator.scheduler=dpmsolver++") == ["synthetic/generator.scheduler=dpmsolver++/seed-0"]
    assert names(config, "generator.revision=null") == ["synthetic/generator.revision=None/seed-0"]
    # What reads alike as a whole may be other values.
    one = names(config, 'prompt="a,generator.scheduler=b"', "generator.scheduler=c")
    assert one != names(config, "prompt=a", 'generator.scheduler="b,generator.scheduler=c"')


def test_gains_are_over_real_images_at_the_same_settings(tmp_path):
    arms = [{"name": "real"}, {"name": "mix", "recipe": "mixup"}]
    config = toy_run(
        tmp_path,
        data={"split": {"name": "few-shot", "k": 3}},
        conditioning={"recipe": "mixup"},
        training={"steps": 1, "arms": arms},
    )
    results = sweep(config, [parse_axis("data.split.k=2,3")], seeds=1)
    assert {(gain.arm, gain.baseline) for gain in results.differences} == {
        ("mix k=2", "real k=2"),
        ("mix k=3", "real k=3"),
    }
    # Models of other arms stay in the runs, but they are no part of what is swept now; without real ones: no gain.
    alone = toy_run(tmp_path, **config.model_dump(exclude={"run", "training"}), training={"steps": 1, "arms": arms[1:]})
    results = sweep(alone, [parse_axis("data.split.k=2,3")], seeds=1)
    assert [arm.name for arm in results.arms] == ["mix k=2", "mix k=3"]
    assert results.differences == ()


def test_models_of_an_earlier_config_are_left_out(tmp_path):
    arms = [{"name": "real-only"}, {"name": "faster", "overrides": {"lr": 0.1}}]
    for chosen in (arms, arms[:1]):
        config = toy_run(tmp_path, training={"steps": 1, "arms": chosen})
        results = sweep(config, [parse_axis("training.weight_decay=0.1")], seeds=1)
        assert {arm.name for arm in results.arms} == {f"{arm['name']} weight_decay=0.1" for arm in chosen}


def test_leaky_and_honest_arms_in_one_table(tmp_path):
    config = toy_run(
        tmp_path,
        data={"split": {"name": "few-shot", "k": 3}},
        conditioning={"recipe": "image"},
        training={"steps": 2},
    )
    axes = [parse_axis("leaks=[],[fixed-training-subset]")]
    results = sweep(config, axes, seeds=1, on="test")
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
    # The leak judges every seed on other images, which no one interval covers.
    results = sweep(config, axes, seeds=2, on="test")
    assert {(gain.arm, gain.baseline) for gain in results.differences} == {("image leaks=", "real-only leaks=")}


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
    with pytest.raises(ConfigError, match=r"data\.split\.seed: a sweep sets this itself"):
        names(config, "data.split.seed=0,1,2")
    with pytest.raises(ConfigError, match=r"data\.split\.seed: a sweep sets this itself"):
        names(config, "data.split={name: few-shot, k: 1, seed: 0},{name: few-shot, k: 1, seed: 1}")
    with pytest.raises(ConfigError, match="a protocol is a preset"):
        names(config, "protocol=few-shot,published")
    arms = toy_run(tmp_path, training={"arms": [{"name": "real-only"}, {"name": "mix", "recipe": "mixup"}]})
    with pytest.raises(ConfigError, match=r"no arm trains on 'text'; training\.arms has real-only .*, mix \(mixup\)"):
        names(arms, "conditioning.recipe=mixup,[mixup, text]")


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
    assert results.on == "validation"
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
    assert "| mixup per_class=4 | 4 | 2 | 12 |" in (config.run / "sweep.md").read_text()
    weights = {path: path.stat().st_mtime_ns for path in config.run.rglob("model.safetensors")}
    assert len(weights) == 6
    assert sweep(config, axes, seeds=2) == results
    assert weights == {path: path.stat().st_mtime_ns for path in config.run.rglob("model.safetensors")}
    # The larger plan took the smaller one's images instead of making them anew.
    markers = sorted((config.run / "cells/synthetic/plan.per_class=4/seed-0/shards").glob("*.json"))
    notes = [note for path in markers for note in json.loads(path.read_text())["notes"]]
    assert notes == ["6 rows reused"]


def test_trainings_of_a_seed_are_averaged(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, training={"steps": 1}, plan={"per_class": 2})
    results = sweep(config, [parse_axis("plan.per_class=2")], seeds=3, trainings=2)
    assert [seed.seeds.training for seed in results.arms[0].seeds] == [0, 10_000, 1, 10_001, 2, 10_002]
    gain = results.gain("text per_class=2")
    assert gain.seeds == 3 and gain.low is not None
    assert gain.mean == pytest.approx(results.arms[1].mean.overall - results.arms[0].mean.overall)
