"""What would stop a run in some hours stops it at once: no image is read before."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from augcond import checks
from augcond.assets import WORLD
from augcond.checks import EVERYTHING, Look, Problem, check_run, ensure_ready
from augcond.checks.generation import check_disk
from augcond.datasets.readers import FileReader
from augcond.errors import (
    ConfigError,
    DatasetError,
    GeneratorError,
    LeakError,
    PlanError,
    RunError,
    SplitError,
    TrainingError,
)
from augcond.experiments.axes import Axis
from augcond.experiments.sweep import sweep
from augcond.pipeline import evaluate, generate, run, train
from augcond.training.networks import SmallCnn
from tests.training.toys import toy_run, write_colours


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """Count the images that are read."""
    keys: list[str] = []
    read = FileReader.read

    def counted(self, key):
        keys.append(key)
        return read(self, key)

    monkeypatch.setattr(FileReader, "read", counted)
    yield keys


def whole_checkpoint(folder: Path) -> Path:
    return Path(shutil.copytree(WORLD / "checkpoint", folder / "model"))


def pickled_checkpoint(folder: Path) -> Path:
    model = whole_checkpoint(folder)
    for path in (model / "unet").glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    return model


def renamed_checkpoint(folder: Path) -> Path:
    model = whole_checkpoint(folder)
    torch.save({"weight": torch.zeros(3)}, next((model / "vae").glob("*.safetensors")))
    return model


def classifier(folder: Path, name: str, width: int = 32) -> Path:
    path = folder / name
    weights = SmallCnn(3, width).state_dict()
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def renamed_classifier(folder: Path) -> Path:
    path = folder / "renamed.safetensors"
    path.write_bytes(pickle.dumps({"head.weight": [0.0] * 1000}))
    return path


def class_names(folder: Path, text: str) -> Path:
    path = folder / "names.txt"
    path.write_text(text)
    return path


def other_classes(folder: Path) -> Path:
    write_colours(folder / "other", 2)
    (folder / "other" / "a").rename(folder / "other" / "z")
    return folder / "other"


def with_an_empty_class(folder: Path) -> None:
    toy_run(folder)
    (folder / "train" / "d").mkdir()


def finetuned(weights: Path) -> dict:
    return {"training": {"mode": "finetune", "weights": str(weights)}}


def the_training_folder(folder: Path) -> dict:
    toy_run(folder)
    return {"data": {"test": folder / "train"}}


def a_folder_inside(folder: Path) -> dict:
    toy_run(folder)
    shutil.copytree(folder / "test", folder / "train" / "a" / "test")
    return {"data": {"validation": folder / "train" / "a" / "test"}}


def a_list_of_the_same_files(folder: Path) -> dict:
    toy_run(folder)
    for name in ("train", "test"):
        keys = (path.relative_to(folder / "train") for path in sorted((folder / "train").glob("*/*.png")))
        text = "".join(f"../train/./{key} {key.parent}\n" for key in keys)
        (folder / name / f"{name}.txt").write_text(text)
    data = {"source": "list", "path": folder / "train" / "train.txt", "test": folder / "test" / "test.txt"}
    return {"data": {**data, "validation": None}}


WRONG = {
    "test images that are the training images": (
        LeakError,
        r"26 of 26 test images are training images too: the same files, such as 'a/0\.png'",
        the_training_folder,
    ),
    "validation images inside the training images": (
        LeakError,
        r"24 of 24 validation images are training images too",
        a_folder_inside,
    ),
    "two lists of the same files": (LeakError, r"26 of 26 test images .* the same files", a_list_of_the_same_files),
    "recipe of another generator": (
        ConfigError,
        "kandinsky-2.2 does not take a prompt alone",
        lambda _: {"generator": {"name": "kandinsky-2.2", "model": "some/where"}},
    ),
    "key of another generator": (
        ConfigError,
        r"generator\.lora: kandinsky-2\.2 takes no LoRA; leave it out",
        lambda _: {"generator": {"name": "kandinsky-2.2", "model": "some/where", "lora": [{"model": "some/style"}]}},
    ),
    "parameter of another recipe": (
        ConfigError,
        r"conditioning\.sources: 3 does not apply to recipe image",
        lambda _: {"conditioning": {"recipe": "image", "sources": 3}},
    ),
    "augmentation of sources": (
        ConfigError,
        r"conditioning\.augment\[0\]: torchvision has no v2 transform 'Blurr'",
        lambda _: {"conditioning": {"augment": [{"name": "Blurr"}]}},
    ),
    "steps": (
        ConfigError,
        r"conditioning\.strength: 0\.3 of 2 steps leaves none",
        lambda _: {"generator": {"steps": 2}, "conditioning": {"recipe": "real-guidance", "strength": 0.3}},
    ),
    "arm": (
        ConfigError,
        "'other' trains on 'cutmix', which",
        lambda _: {"training": {"arms": [{"name": "other", "recipe": "cutmix"}]}},
    ),
    "network": (ConfigError, "no network 'resnet51'", lambda _: {"training": {"model": "resnet51"}}),
    "optimiser": (ConfigError, r"training\.optimizer 'sdg'", lambda _: {"training": {"optimizer": "sdg"}}),
    "augmentation in training": (
        ConfigError,
        r"training\.augment\.transforms\[0\]: torchvision has no v2 transform",
        lambda _: {"training": {"augment": {"transforms": [{"name": "Blurr"}]}}},
    ),
    "weights that are not there": (
        TrainingError,
        r"training\.weights: no file at .*nowhere\.safetensors",
        lambda folder: finetuned(folder / "nowhere.safetensors"),
    ),
    "pickled weights": (
        ConfigError,
        r"weights\.pth is no \.safetensors file; nothing else is loaded",
        lambda folder: finetuned(classifier(folder, "weights.pth")),
    ),
    "a renamed pickle": (
        TrainingError,
        r"renamed\.safetensors cannot be loaded",
        lambda folder: finetuned(renamed_classifier(folder)),
    ),
    "weights of another network": (
        TrainingError,
        "holds the weights of another network",
        lambda folder: finetuned(classifier(folder, "narrow.safetensors", width=8)),
    ),
    "loss without images": (
        TrainingError,
        "class 'd' has no training image, which balanced-softmax cannot count",
        lambda folder: with_an_empty_class(folder) or {"conditioning": {"recipe": "text"}},
    ),
    "ceiling without images": (
        TrainingError,
        "class 'a' has 0 unused real images",
        lambda _: {"training": {"arms": [{"name": "ceiling", "recipe": "unused-real"}]}},
    ),
    "a class without sources": (
        PlanError,
        "class 'd' has no readable image to be conditioned on",
        lambda folder: with_an_empty_class(folder) or {"training": {"loss": "cross-entropy"}},
    ),
    "plan": (PlanError, "names the class 'x'", lambda _: {"plan": {"per_class": {"x": 2}}}),
    "split": (
        SplitError,
        "class 'b' has 8 readable images; the split 'few-shot' takes 9",
        lambda _: {"data": {"split": {"name": "few-shot", "k": 9}}},
    ),
    "data": (DatasetError, "no folder at", lambda folder: {"data": {"path": folder / "nowhere"}}),
    "class names": (
        DatasetError,
        r"names\.txt names no class 'c'",
        lambda folder: {"data": {"class_names": class_names(folder, "a\tfirst\nb\tsecond\n")}},
    ),
    "test classes": (
        DatasetError,
        r"data\.test has 1 classes that the training data lacks, such as 'z'",
        lambda folder: {"data": {"test": other_classes(folder)}},
    ),
    "validation images": (
        DatasetError,
        "no folder at .*nowhere",
        lambda folder: {"data": {"validation": folder / "nowhere"}},
    ),
    "screening without validation images": (
        ConfigError,
        r"data\.validation is not set",
        lambda _: {"data": {"validation": None}, "screening": {"by": "encoder"}},
    ),
    "screening beside leaks": (
        LeakError,
        "screening chooses on validation images",
        lambda _: {"leaks": ["best-epoch"], "screening": {"by": "encoder"}},
    ),
    "a checkpoint that is not there": (
        ConfigError,
        r"generator\.model: no folder .*nowhere",
        lambda folder: {"generator": {"name": "stable-unclip", "model": str(folder / "nowhere")}},
    ),
    "a checkpoint of another pipeline": (
        GeneratorError,
        "is a StableUnCLIPImg2ImgPipeline; this generator needs a StableDiffusionPipeline",
        lambda folder: {
            "generator": {"name": "stable-diffusion", "model": str(whole_checkpoint(folder))},
            "conditioning": {"recipe": "text"},
        },
    ),
    "a pickled checkpoint": (
        GeneratorError,
        "unet holds no safetensors weights; pickled weights",
        lambda folder: {"generator": {"name": "stable-unclip", "model": str(pickled_checkpoint(folder))}},
    ),
    "a checkpoint with a renamed pickle": (
        GeneratorError,
        "is no whole safetensors file",
        lambda folder: {"generator": {"name": "stable-unclip", "model": str(renamed_checkpoint(folder))}},
    ),
    "a batch of one image for a batch norm": (
        ConfigError,
        r"resnet10t cannot be trained on 1 image of 32 x 32 pixels .*: raise training\.batch_size",
        lambda _: {"training": {"model": "resnet10t", "image_size": 32, "batch_size": 1}},
    ),
    "a pickled adapter": (
        ConfigError,
        r"generator\.own\.adapter\.weights: 'adapter\.bin' is not a safetensors file",
        lambda _: {
            "generator": {"name": "ip-adapter", "model": "some/where", "own": {"adapter": {"weights": "adapter.bin"}}}
        },
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_shows_before_an_image_is_read(tmp_path, reads, what):
    error, message, sections = WRONG[what]
    config = toy_run(tmp_path, **sections(tmp_path))
    with pytest.raises(error, match=message):
        generate(config)
    assert reads == []
    assert not config.run.exists()


def test_all_of_it_shows_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        generate(toy_run(tmp_path, conditioning={"recipe": "image", "sources": 3}, training={"model": "resnet51"}))
    first, second = str(caught.value).splitlines()
    assert first.startswith("conditioning.sources")
    assert second.startswith("training.model: no network 'resnet51'")


@pytest.mark.parametrize(
    ("work", "without", "message"),
    [
        (run, "test", r"data\.test is not set"),
        (evaluate, "test", r"data\.test is not set"),
        (lambda config: evaluate(config, on="validation"), "validation", r"data\.validation is not set"),
        (lambda config: sweep(config, [Axis("plan.per_class", (1, 2))]), "validation", r"data\.validation is not set"),
    ],
    ids=["run", "evaluate", "evaluate on validation", "sweep"],
)
def test_images_to_judge_on_are_there_before_anything_is_made(tmp_path, reads, work, without, message):
    config = toy_run(tmp_path, data={without: None})
    with pytest.raises(ConfigError, match=message):
        work(config)
    assert reads == []
    assert not config.run.exists()


def test_every_cell_of_a_sweep_is_looked_at_first(tmp_path, reads, monkeypatch):
    listed = []
    list_images = checks.look.list_images
    monkeypatch.setattr(checks.look, "list_images", lambda data: listed.append(data) or list_images(data))
    axes = [Axis("training.optimizer", ("adamw", "sdg")), Axis("plan.per_class", (1, 2))]
    with pytest.raises(ConfigError, match=r"training\.optimizer 'sdg'"):
        sweep(toy_run(tmp_path), axes)
    assert reads == []
    assert len(listed) == 1


def test_held_out_images_of_the_split_are_enough(tmp_path):
    data = {"validation": None, "split": {"name": "all", "validation_per_class": 2}}
    config = toy_run(tmp_path, data=data, screening={"by": "encoder"})
    assert check_run(Look(config, EVERYTHING, "validation")) == []


def test_listed_images_that_are_not_there(tmp_path):
    toy_run(tmp_path)
    keys = [path.relative_to(tmp_path / "train").as_posix() for path in sorted((tmp_path / "train").glob("*/*.png"))]

    def listed(name, gone):
        path = tmp_path / "train" / name
        path.write_text("".join(f"{key} {'abc'.index(key[0])}\n" for key in [*keys, *gone]))
        return path

    few = toy_run(tmp_path, data={"source": "list", "path": listed("few.txt", ["a/x.png"]), "validation": None})
    few = few.model_copy(update={"data": few.data.model_copy(update={"test": None})})
    found = [problem for problem in check_run(Look(few, {"generate"})) if problem.what == "data"]
    assert found == [Problem("data", "1 of 27 listed images, such as a/x.png")]
    many = listed("many.txt", [f"a/x{i}.png" for i in range(9)])
    data = few.data.model_copy(update={"path": many})
    with pytest.raises(DatasetError, match=r"9 of 35 files cannot be used .*: 9 x file not found"):
        ensure_ready(few.model_copy(update={"data": data}), {"generate"})


def test_weights_to_fetch_are_no_error_unless_the_hub_may_not_be_asked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    config = toy_run(
        tmp_path,
        generator={"name": "stable-unclip", "model": "some/where"},
        training={"model": "resnet18", "mode": "finetune", "weights": "hub", "revision": "of-nowhere"},
    )
    ensure_ready(config, {"generate"})
    assert "some/where is not in the local cache: fetched from the hub at first use" in caplog.text
    assert "classifier weights: timm/resnet18" in caplog.text
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GeneratorError, match="some/where is not in the local cache, and HF_HUB_OFFLINE is set"):
        ensure_ready(config, {"generate"})


def test_space_beside_what_is_made_already(tmp_path, monkeypatch):
    config = toy_run(tmp_path, generator={"size": 512}, output={"format": "png"})
    low = 100 * 512**2 * 1.1

    def problem(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
        return [found.error for found in check_disk(config, 100)]

    assert problem(low - 1) == [RunError]
    assert problem(low + 1) == [None]
    assert problem(2 * low) == []
    (config.run / "shards").mkdir(parents=True)
    (config.run / "shards" / "00000.parquet").write_bytes(b"x" * 1000)
    assert problem(low - 999) == [None]


def test_what_is_trained_is_not_looked_at_again(tmp_path, monkeypatch):
    config = toy_run(tmp_path, training={"arms": [{"name": "real-only"}], "seeds": 1, "steps": 2})
    cards = train(config)

    def refused(*_):
        raise TrainingError("its weights are not in the cache any more")

    monkeypatch.setattr("augcond.training.models.check_training", refused)
    assert train(config) == cards
    shutil.rmtree(config.run / "models")
    with pytest.raises(TrainingError, match="not in the cache any more"):
        train(config)


def test_nothing_that_trains_is_imported_where_nothing_is_trained(tmp_path):
    write_colours(tmp_path / "photos", 2)
    write_colours(tmp_path / "others", 2)
    code = f"""
import sys
from pathlib import Path
from augcond.checks import ensure_ready
from augcond.config import parse_config
values = {{"data": {{"path": "{tmp_path / "photos"}"}}, "run": "{tmp_path / "run"}", "generator": {{"name": "fake"}}}}
for test in ({{}}, {{"test": "{tmp_path / "others"}"}}):
    ensure_ready(parse_config({{**values, "data": {{**values["data"], **test}}}}), {{"generate"}})
print(sorted({{"torch", "timm", "diffusers", "transformers"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
