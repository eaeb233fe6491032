"""Every key that a sweep can vary: its value is in the cell that is measured, and reaches the stage that it decides."""

from types import SimpleNamespace

import pytest

from augcond.config.base import Section, find_setting, setting_of
from augcond.errors import ConfigError
from augcond.evaluation.results import read_results
from augcond.experiments import sweep as module
from augcond.experiments.axes import parse_axis
from augcond.experiments.sweep import _alike, cells_of, sweep
from tests.training.toys import toy_run

VALUES = {
    "data.background": "black",
    "data.max_pixels": "1000",
    "data.max_bad_share": "0.5",
    "data.near_duplicates": "ignore",
    "data.split.k": "2",
    "data.split.validation_per_class": "1",
    "leaks": "[best-epoch]",
    "plan.per_class": "2",
    "plan.fill_to": "20",
    "conditioning.recipe": "text",
    "conditioning.alpha": "0.5",
    "conditioning.dropout": "0.1",
    "conditioning.rescale": "true",
    "conditioning.strength": "0.7",
    "conditioning.mix_probability": "0.5",
    "conditioning.sources": "3",
    "conditioning.neighbours": "3",
    "conditioning.interpolation": "slerp",
    "conditioning.crop_scale": "[0.5, 1.0]",
    "conditioning.crop_ratio": "[1.0, 1.0]",
    "conditioning.augment": "[{name: RandomHorizontalFlip}]",
    "prompt": "'a {class_name}'",
    "generator.model": "sd2",
    "generator.revision": "main",
    "generator.guidance_scale": "7",
    "generator.guidance_interval": "[0.2, 0.8]",
    "generator.away_from": "similar-class",
    "generator.steps": "5",
    "generator.scheduler": "ddim",
    "generator.cache": "{interval: 2, branch: 1}",
    "generator.lora": "[{model: someone/style}]",
    "generator.vae": "tiny",
    "generator.size": "64",
    "generator.dtype": "float16",
    "generator.device": "cpu",
    "generator.memory": "offload",
    "generator.compile": "true",
    "output.format": "png",
    "output.quality": "50",
    "output.effort": "2",
    "output.size": "16",
    "engine.max_failed_share": "0.9",
    "engine.shard_size": "4",
    "engine.batch_size": "4",
    "engine.workers": "2",
    "engine.address": "local",
    "engine.threads": "1",
    "engine.feeding_threads": "1",
    "engine.max_memory_gb": "0",
    "training.model": "resnet18",
    "training.revision": "main",
    "training.image_size": "8",
    "training.steps": "3",
    "training.batch_size": "4",
    "training.synthetic_share": "0.25",
    "training.synthetic_tilt": "0.5",
    "training.real_steps": "1",
    "training.mix": "bernoulli",
    "training.sampling": "class-balanced",
    "training.loss": "cross-entropy",
    "training.counts": "effective",
    "training.ceiling_counts": "alike",
    "training.tau": "2",
    "training.label_smoothing": "0.1",
    "training.optimizer": "sgd",
    "training.lr": "0.1",
    "training.momentum": "0.5",
    "training.weight_decay": "0.1",
    "training.decay": "all",
    "training.clip_norm": "1.0",
    "training.schedule": "constant",
    "training.warmup_steps": "1",
    "training.augment.crop": "none",
    "training.augment.scale": "[0.5, 1.0]",
    "training.augment.flip": "0.0",
    "training.augment.transforms": "[{name: RandAugment}]",
    "training.augment.mix": "cutmix",
    "training.augment.mix_alpha": "0.5",
    "training.views": "2",
    "training.standardise": "false",
    "training.checkpoint_every": "7",
    "training.device": "auto",
    "training.precision": "bf16",
    "training.max_memory_gb": "1",
    "screening.by": "classifier",
    "screening.rejected_real": "0.1",
    "evaluation.many": "11",
    "evaluation.few": "3",
}
"""For each key another value than that of the toy run."""

ELSEWHERE = {
    *("data.source", "data.path", "data.validation", "data.test", "data.huggingface", "data.webdataset"),
    *("data.class_names", "data.several_names", "data.split", "data.split.imbalance", "data.split.head"),
    *("data.split.order", "data.split.name", "plan.oversample", "generator.name", "engine.name", "training.mode"),
    "training.weights",
}
"""Keys that go together with others, and those whose other values want more than the toy run has."""


def keys(section, start=()):
    """Yield the keys that may be swept of a section and those inside it."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from keys(value, (*start, key))
        elif setting_of(type(section), key).swept:
            yield ".".join((*start, key))


def toy(root):
    return toy_run(root, data={"split": {"name": "few-shot", "k": 1}})


def value_at(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_every_key_is_walked(tmp_path):
    assert {*keys(toy(tmp_path))} - ELSEWHERE == {*VALUES}


@pytest.mark.parametrize("key", VALUES)
def test_a_swept_value_reaches_the_stage_that_it_decides(tmp_path, monkeypatch, key):
    given = {name: [] for name in ("generate", "train", "evaluate")}

    def stage(name):
        def called(config, **about):
            given[name].append(value_at(config, key))
            return SimpleNamespace()

        return called

    for name in given:
        monkeypatch.setattr(module, name, stage(name))
    monkeypatch.setattr(module, "ensure_ready", lambda *about: None)
    monkeypatch.setattr(module, "_collect", lambda *about: (_ for _ in ()).throw(StopIteration))
    config = toy(tmp_path)
    axis = parse_axis(f"{key}={VALUES[key]}")
    with pytest.raises((StopIteration, RuntimeError)):
        sweep(config, [axis], seeds=1)
    decides = find_setting(config, tuple(key.split("."))).decides
    stages = {"real": [*given], "images": ["generate"], "kept": ["train"], "models": ["train"], "nothing": [*given]}
    own = value_at(config, key)
    for name in stages.get(decides, ["evaluate"]):
        # With `nothing`, arms of real images alone are those of the base config.
        assert [value for value in given[name] if value != own], f"{key} decides {decides} and never reaches {name}"


@pytest.mark.parametrize("key", ["generator.dtype", "generator.steps", "conditioning.alpha", "leaks"])
def test_no_images_are_taken_from_a_cell_that_makes_others(tmp_path, key):
    values = {"generator.dtype": "float32,float16", "generator.steps": "2,3", "leaks": "[],[best-epoch]"}
    cells = cells_of(toy(tmp_path), [parse_axis(f"{key}={values.get(key, '0.5,2')}")], seeds=1)
    first, second = [cell for cell in cells if "synthetic" in str(cell.config.run)]
    assert _alike(second, [first]) == []


def test_a_sweep_over_the_judgement_judges_by_it(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, training={"steps": 1, "seeds": 1})
    sweep(config, [parse_axis("evaluation.many=10,100")], seeds=1)
    many = {arm.name: arm.mean.many for arm in read_results(config.run / "sweep.json").arms}
    assert many["text many=10"] is not None
    assert many["text many=100"] is None


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("generator.guidance_scale=2.0,'4'", (2, 4)),
        ("generator.steps=3.0,'5'", (3, 5)),
        ("conditioning.recipe=text,[mixup]", ("text", ["mixup"])),
        ("plan.fill_to=10,20", (10, 20)),
    ],
)
def test_a_value_is_what_it_is_taken_for(tmp_path, axis, values):
    key = axis.partition("=")[0]
    points = [cell.point.get(key) for cell in cells_of(toy(tmp_path), [parse_axis(axis)], seeds=1)]
    assert tuple(point for point in points if point is not None) == values


@pytest.mark.parametrize("axis", ["generator.steps=3,3.0", "conditioning.recipe=text,[text]", "training.lr=1e-3,.001"])
def test_one_value_in_two_spellings_is_refused(tmp_path, axis):
    with pytest.raises(ConfigError, match="a value comes twice"):
        cells_of(toy(tmp_path), [parse_axis(axis)], seeds=1)


def test_a_row_chosen_beforehand_is_one_of_the_sweeps(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, training={"steps": 1}, evaluation={"primary": "text"})
    with pytest.raises(ConfigError, match="'text' is no row of this sweep; its rows: real-only, text steps=2"):
        sweep(config, [parse_axis("generator.steps=2,3")], seeds=1)
