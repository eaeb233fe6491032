"""The dry run: counts, hours and disk against numbers worked out by hand; what is missing; nothing is decoded."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import augcond.__main__ as program
from augcond.assets import WORLD
from augcond.config import ConditioningConfig, EngineConfig, PlanConfig, load_config, parse_config
from augcond.datasets import decoding
from augcond.engine import Materials
from augcond.experiments.forecast import LONGEST_SHARD, Estimate, estimate_cost, forecast, summarize_plan
from augcond.experiments.rates import generation_costs
from augcond.planning import make_plan
from augcond.store.images import ImageFormat
from augcond.testing import FakeGenerator
from augcond.training.networks import build_classifier
from tests.datasets import layouts
from tests.toy import toy_dataset, write_photos

CONFIGS = Path(__file__).parents[2] / "configs"


def dry(name, *overrides):
    return forecast(load_config(CONFIGS / f"{name}.yaml", overrides))


def missing(found, what):
    return [entry.detail for entry in found.missing if entry.what == what]


def hours(found, stage):
    return {cost.device: cost.hours for cost in found.costs if cost.stage == stage}


def test_imagenet_lt_without_data_is_counted_by_the_official_numbers(tmp_path):
    found = dry("imagenet-lt", f"data.path={tmp_path / 'nowhere'}")
    assert (found.classes, found.real, found.total, found.counted) == (1000, 115_846, 1_164_154, "official counts")
    # 1,164,154 images of 21 evaluations (pndm makes one more than its 20 steps), 768 pixels in place of 512.
    steps = 1_164_154 * 21 * 2.25
    assert hours(found, "generation") == pytest.approx(
        {
            "A100": steps / (16 * 3.04) / 3600,
            "RTX 4090": steps / (16 * 3.17) / 3600,
            "RTX 3090": steps / (16 * 1.70) / 3600,
            "V100": steps / (16 * 1.66) / 3600,
            "T4": steps * 2.34 / 16 / 3600,
        }
    )
    # Three arms of one seed.
    assert hours(found, "training") == pytest.approx({"RTX 3090": 3 * 682_200 * 512 / 1001.03 / 3600})
    low, high = found.disk
    assert (low, high) == pytest.approx((1_164_154 * 384**2 * 0.10, 1_164_154 * 384**2 * 0.32))
    (detail,) = missing(found, "data")
    assert "no folder at" in detail
    assert "https://image-net.org" in detail
    assert all(cost.source.startswith("published: ") for cost in found.costs)
    assert "measured" in found.disk_source


@pytest.mark.parametrize(
    ("name", "classes"), [("pascal-voc", 20), ("coco", 80), ("caltech101", 101), ("flowers102", 102)]
)
def test_few_shot_benchmarks_without_data(name, classes, tmp_path):
    found = dry(name, f"data.path={tmp_path / 'nowhere'}")
    assert (found.classes, found.real) == (classes, 4 * classes)
    assert set(found.images.values()) == {16 * classes}
    assert len(missing(found, "data")) == 1


def test_places_lt_without_data_cannot_be_counted(tmp_path):
    found = dry("places-lt", f"data.path={tmp_path / 'nowhere'}")
    assert (found.classes, found.images, found.costs, found.disk) == (365, {}, (), None)


def test_with_data_nothing_is_decoded(tmp_path, monkeypatch):
    gone = "train/n01443537/n01443537_0.JPEG"
    root = layouts.imagenet_lt(tmp_path / "data", missing=[gone])

    def refuse(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(decoding, "probe", refuse)
    found = dry("imagenet-lt", f"data.path={root}", "plan.fill_to=6", f"run={tmp_path / 'run'}")
    # One image of the second class is listed, and not there.
    assert (found.classes, found.real, found.total) == (4, 10, 1 + 4 + 4 + 5)
    assert found.counted == "data"
    assert found.held_out == {"validation": 4, "test": 8}
    assert missing(found, "data") == [f"1 of 11 listed images, such as {gone}"]
    assert not (tmp_path / "run").exists()


def test_a_split_that_the_data_do_not_allow(tmp_path):
    root = layouts.coco(tmp_path)
    found = dry("coco", f"data.path={root}")
    (detail,) = missing(found, "data")
    assert "class 'person' has 2 readable images; the split 'few-shot' takes 4 for training" in detail


def test_your_own_photos(tmp_path):
    photos = write_photos(tmp_path / "train", {"cat": 3, "dog": 4})
    found = dry("photos", f"data.path={photos}", f"data.test={tmp_path / 'test'}")
    assert (found.real, found.images) == (7, {"text": 32, "dropout": 32, "embed-mixup-dropout": 32})
    (detail,) = missing(found, "test images")
    assert "no folder at" in detail
    found = dry("photos", f"data.path={photos}", "data.test=null")
    (detail,) = missing(found, "test images")
    assert detail.startswith("data.test is not set: name a folder of real images")


def test_what_weights_are_missing(tmp_path):
    values = {
        "data": {"source": "builtin"},
        "run": tmp_path / "run",
        "generator": {"model": str(tmp_path / "model")},
        "training": {"mode": "finetune", "weights": str(tmp_path / "weights.safetensors"), "model": "resnet18"},
    }
    found = forecast(parse_config(values))
    (detail,) = missing(found, "weights")
    assert detail.startswith(f"generator.model: no folder {tmp_path / 'model'}; expected `builtin`")
    assert missing(found, "training") == [f"training.weights: no file at {tmp_path / 'weights.safetensors'}"]
    assert found.unrated == ("training",)
    shutil.copytree(WORLD / "checkpoint", tmp_path / "model")
    network = build_classifier(parse_config(values).training.model_copy(update={"weights": None}), 10, seed=0)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found = forecast(parse_config(values))
    assert {entry.what for entry in found.missing} <= {"GPU"}
    hub = {**values, "generator": {"model": "some/where"}, "training": {**values["training"], "weights": "hub"}}
    found = forecast(parse_config(hub))
    assert missing(found, "weights")[0].startswith(
        "some/where is not in the local cache: fetched from the hub at first"
    )
    assert missing(found, "classifier weights")[0].startswith("timm/resnet18.")


@pytest.mark.parametrize(
    ("name", "repository"),
    [("ip-adapter", "h94/IP-Adapter"), ("kandinsky-2.2", "kandinsky-community/kandinsky-2-2-prior")],
)
def test_weights_that_lie_beside_the_model_are_missing_too(tmp_path, monkeypatch, name, repository):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    write_photos(tmp_path / "photos", {"cat": 2})
    values = {"data": {"path": tmp_path / "photos"}, "run": tmp_path / "run"}
    found = forecast(parse_config({**values, "generator": {"name": name, "model": "someone/model"}}))
    assert [detail.split()[0] for detail in missing(found, "weights")] == ["someone/model", repository]


def test_too_little_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))
    found = dry("imagenet-lt", f"data.path={tmp_path}")
    (detail,) = missing(found, "disk")
    assert detail.startswith("1.0 GB free at ")
    assert detail.endswith("the images take 17.2 GB to 54.9 GB")


def test_a_missing_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    found = dry("coco", f"data.path={layouts.coco(tmp_path)}")
    assert missing(found, "extra") == ["pycocotools is not installed: pip install 'augcond[benchmarks]'"]


def test_what_makes_generation_cheaper():
    def a100(recipes=None, **settings):
        config = parse_config(
            {"data": {"source": "builtin"}, "run": "x", "generator": {"model": "a/b", "steps": 20, **settings}}
        ).generator
        images = recipes or {"dropout": 100}
        conditioning = ConditioningConfig(recipe=tuple(images), strength=0.25)
        costs = generation_costs(config, conditioning, images)
        return costs[0].hours if costs else None

    whole = a100()
    assert a100(guidance_scale=1.0) == pytest.approx(whole / 2)
    assert a100(guidance_interval=[0.25, 0.75]) == pytest.approx(whole * 0.75)
    assert a100(size=512) == pytest.approx(whole / 2.25)
    assert a100({"real-guidance": 100}) == pytest.approx(whole / 4)
    assert a100(model="builtin") is None
    assert a100(name="kandinsky-2.2") is None


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["augcond", "run", str(CONFIGS / "flowers102.yaml"), "--dry", "--set", "data.path=nowhere"]
    outputs = []
    for arguments in (command, [*command, "--json"]):
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            program.main()
        assert stop.value.code == 1  # there are no photos
        outputs.append(capsys.readouterr().out)
    for words in (
        "8,160 images to make",
        "1,632 by text",
        "GPU hours of generation",
        "  assumed: ",
        "this stops the run:",
        "imagelabels.mat",
    ):
        assert words in outputs[0]
    values = json.loads(outputs[1])
    assert (values["total"], values["counted"]) == (5 * 16 * 102, "official counts")
    assert values["missing"][0]["what"] == "data" and values["missing"][0]["fatal"] is True
    assert list(tmp_path.iterdir()) == []


def test_the_built_in_world(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["augcond", "run", str(CONFIGS / "world.yaml"), "--dry"])
    with pytest.raises(SystemExit):
        program.main()
    out = capsys.readouterr().out
    assert "496 real training images of 10 classes" in out
    assert "generation: no published rate for this model; augcond plan CONFIG times a few images" in out


@pytest.mark.parametrize(
    ("seconds", "better"),
    [(1.17, None), (1.18, 240), (3.0, 96), (18.0, 16), (400.0, 16)],  # by hand: 300 s, in batches of 16
)
def test_a_shard_of_more_than_five_minutes_is_too_large(seconds, better):
    found = Estimate(10_000, 16, seconds, 1.0, shard_size=256, batch_size=16)
    assert found.shard_seconds == 256 * seconds
    assert found.better_shard_size == better
    assert better in (None, 16) or better * seconds <= LONGEST_SHARD


@pytest.mark.parametrize(("per_class", "batches"), [(1, [2, 2]), (2, [3, 3]), (9, [3, 3])])
def test_two_batches_are_made_to_time_one(per_class, batches):
    class Counting(FakeGenerator):
        def generate(self, conditioning, seeds):
            made.append(len(seeds))
            return super().generate(conditioning, seeds)

    made = []
    dataset, conditioning = toy_dataset({"a": 2, "b": 3}), ConditioningConfig(recipe=("image",))
    plan = make_plan(dataset, PlanConfig(per_class=per_class), conditioning, prompts=("x",))
    materials = Materials(dataset.reader, dataset.decoding, conditioning, Counting(), ImageFormat("png", 90, None))
    found = estimate_cost(plan, materials, EngineConfig(batch_size=3, shard_size=4))
    assert made == batches
    assert (found.images, found.timed_images, found.shard_size) == (len(plan), batches[0], min(4, len(plan)))
    assert summarize_plan(plan, dataset, found).shard_seconds == found.shard_seconds > 0
