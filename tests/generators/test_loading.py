import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.generators.loading import hash_checkpoint, locate_checkpoint, quiet_progress
from augcond.generators.stable_unclip import LAYOUT
from augcond.testing import (
    save_tiny_ip_adapter,
    save_tiny_kandinsky,
    save_tiny_kandinsky_prior,
    save_tiny_stable_diffusion,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def locate(model, **settings):
    return locate_checkpoint(GeneratorConfig(model=str(model), **settings), LAYOUT)


def test_a_folder_is_known_by_its_name_and_contents(tiny_folder, tiny_generator):
    identity = tiny_generator().identity
    assert (identity.name, identity.model) == ("stable-unclip", "tiny")
    assert identity.revision == hash_checkpoint(tiny_folder)
    assert identity.revision.startswith("sha256:")
    assert len(identity.revision) == 7 + 64
    assert locate(tiny_folder).identity == identity


def test_the_hash_follows_weights_and_configs_only(folder, tmp_path):
    before = hash_checkpoint(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    for extra in ("README.md", ".gitattributes", "unet/.cache.json", "vae/README.txt", "log.txt", "unet/old.bin"):
        (moved / extra).write_text("not a weight")
    (moved / ".cache").mkdir()
    (moved / ".cache" / "x.json").write_text("{}")
    assert hash_checkpoint(moved) == before

    weights = moved / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed_weight = hash_checkpoint(moved)
    assert changed_weight != before
    config = moved / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "epsilon"))
    changed_config = hash_checkpoint(moved)
    assert changed_config not in (before, changed_weight)
    (moved / "vae" / "config.json").rename(moved / "vae" / "config2.json")
    assert hash_checkpoint(moved) not in (before, changed_weight, changed_config)


def test_folders_that_are_no_checkpoint(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(GeneratorError, match=r"empty holds no model_index\.json: expected a checkpoint"):
        locate(empty)
    index = folder / "model_index.json"
    content = json.loads(index.read_text())

    index.write_text(json.dumps({**content, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(GeneratorError, match="is a StableDiffusionPipeline; this generator needs a StableUnCLIP"):
        locate(folder)
    index.write_text(json.dumps({**content, "unet": ["my_code", "UNet"]}))
    with pytest.raises(GeneratorError, match="wants component 'unet' from 'my_code'; code other than"):
        locate(folder)
    index.write_text(json.dumps({**content, "image_encoder": [None, None]}))
    with pytest.raises(GeneratorError, match=r"lacks image_encoder in its model_index\.json"):
        locate(folder)
    index.write_text("{")
    with pytest.raises(GeneratorError, match=r"model_index\.json cannot be read"):
        locate(folder)
    index.write_text("[]")
    with pytest.raises(GeneratorError, match="is not a JSON object"):
        locate(folder)


def as_variant(folder, variant, *components):
    """Rename weights as a variant's, the way the hub has them."""
    for path in sorted(folder.rglob("*.safetensors")):
        if not components or path.parent.name in components:
            path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))
    return folder


@pytest.fixture(scope="module")
def alone(tiny_generator, conditioning):
    """An image that a folder's weights make."""
    return tiny_generator(steps=1).sample(conditioning.take([0]), [5])[0]


@pytest.mark.parametrize(("variant", "components"), [("fp16", ()), ("bf16", ()), ("fp16", ("unet", "vae"))])
def test_a_folder_of_a_variant_alone_loads(folder, conditioning, alone, variant, components):
    as_variant(folder, variant, *components)
    generator = load_generator(GeneratorConfig(model=str(folder), steps=1, device="cpu"))
    assert torch.equal(generator.sample(conditioning.take([0]), [5])[0], alone)
    assert generator.identity.revision == hash_checkpoint(folder)


def test_other_weights_are_preferred_to_a_variant(folder, conditioning, alone):
    for path in list(folder.rglob("*.safetensors")):
        tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(path).items()}
        save_file(tensors, path.with_name(f"{path.stem}.fp16.safetensors"), metadata={"format": "pt"})
    generator = load_generator(GeneratorConfig(model=str(folder), steps=1, device="cpu"))
    assert torch.equal(generator.sample(conditioning.take([0]), [5])[0], alone)


def test_several_variants_are_refused(folder):
    as_variant(as_variant(folder, "fp16", "unet"), "bf16", "vae")
    with pytest.raises(GeneratorError, match="model holds some weights as fp16 only and others as bf16 only"):
        locate(folder)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_shards(folder, conditioning, alone, variant):
    with quiet_progress():
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        unet.save_pretrained(folder / "unet", max_shard_size="60KB", variant=variant)
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    generator = load_generator(GeneratorConfig(model=str(folder), steps=1, device="cpu"))
    assert torch.equal(generator.sample(conditioning.take([0]), [5])[0], alone)
    shards[1].unlink()
    with pytest.raises(
        GeneratorError, match=rf"model/unet lacks 1 of the {len(shards)} shards .* {shards[1].name}: co"
    ):
        locate(folder)
    (index,) = (folder / "unet").glob("*.index*.json")
    index.write_text(json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}))
    with pytest.raises(GeneratorError, match="which is no safetensors file beside it"):
        locate(folder)
    index.write_text("[]")
    with pytest.raises(GeneratorError, match="is no index of shards"):
        locate(folder)
    index.unlink()
    with pytest.raises(
        GeneratorError, match=r"unet holds no diffusion_pytorch_model\.safetensors .* index of its shards"
    ):
        locate(folder)


def test_weights_that_are_not_safetensors(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(GeneratorError, match=r"/model/unet holds no safetensors weights; pickled weights"):
        load_generator(GeneratorConfig(model=str(folder)))


def test_weights_that_are_damaged(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(GeneratorError, match=r"vae/diffusion_pytorch_model\.safetensors is no whole safetensors file"):
        load_generator(GeneratorConfig(model=str(folder)))


def test_pointers_of_git_lfs(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n"
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_text(pointer)
    with pytest.raises(GeneratorError, match=r"safetensors is a pointer of Git LFS, not the file: run `git lfs pull`"):
        locate(folder)


def test_a_checkpoint_in_a_single_file(tmp_path):
    single = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.out.0.bias": torch.zeros(1)}, single)
    message = (
        r"is a checkpoint in a single file; name a folder .* StableUnCLIPImg2ImgPipeline\.from_single_file\(FILE\)"
    )
    for model in (single, tmp_path / "nothing.ckpt", "someone/model/v1.safetensors"):
        with pytest.raises(ConfigError, match=message):
            locate(model)
    with pytest.raises(GeneratorError, match=r"holds no model_index\.json.* model\.safetensors may be one in a single"):
        locate(tmp_path)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "just-a-name", "a/b/c", "~/nowhere-at-all"])
def test_models_that_are_nothing(model):
    with pytest.raises(ConfigError, match=rf"no folder {model}; expected `builtin`, a checkpoint's folder"):
        locate(model)


def test_a_revision_belongs_to_a_hub_id(tiny_folder):
    with pytest.raises(ConfigError, match=r"generator\.revision: .* is a folder"):
        locate(tiny_folder, revision="main")


def test_the_builtin_checkpoint_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("augcond.generators.loading.WORLD", tmp_path)
    with pytest.raises(GeneratorError, match="lacks the built-in checkpoint"):
        locate("builtin")


def test_the_builtin_checkpoint_is_called_builtin(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "checkpoint")
    monkeypatch.setattr("augcond.generators.loading.WORLD", tmp_path)
    checkpoint = locate("builtin")
    assert checkpoint.identity.model == "builtin"
    assert checkpoint.identity.revision == hash_checkpoint(tiny_folder)


def test_the_builtin_checkpoint_is_of_one_generator_only(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "checkpoint")
    monkeypatch.setattr("augcond.generators.loading.WORLD", tmp_path)
    message = (
        "the built-in checkpoint is a StableUnCLIPImg2ImgPipeline, but stable-diffusion needs a "
        "StableDiffusionPipeline: name a folder or a hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    with pytest.raises(ConfigError, match=message):
        load_generator(GeneratorConfig(name="stable-diffusion"))
    with pytest.raises(ConfigError, match=r"generator\.revision: builtin is a folder"):
        locate("builtin", revision="main")


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Puts folders into a hub cache, on a machine that is offline."""
    for name, value in {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": True}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)

    def put(name, folder, commit=COMMIT):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        return repository

    return put


@pytest.fixture
def hub_cache(tiny_folder, publish):
    return publish("someone/tiny", tiny_folder)


OTHER = COMMIT[::-1]


def test_an_adapter_on_the_hub_is_pinned_to_its_commit(publish, tmp_path):
    publish("someone/sd", save_tiny_stable_diffusion(tmp_path / "sd"))
    adapters = publish("h94/IP-Adapter", save_tiny_ip_adapter(tmp_path / "adapters", tmp_path / "sd"), OTHER)
    config = GeneratorConfig(name="ip-adapter", model="someone/sd", steps=1, device="cpu")
    identity = load_generator(config).identity
    assert identity.model == "someone/sd + h94/IP-Adapter/models/ip-adapter_sd15.safetensors"
    assert identity.revision == f"{COMMIT} + {OTHER}"
    (adapters / "snapshots" / OTHER / "models" / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(
        GeneratorError, match="h94/IP-Adapter has no CLIP vision model with safetensors weights in models"
    ):
        load_generator(config)


def test_a_prior_on_the_hub_is_pinned_to_its_commit(publish, tmp_path):
    publish("someone/decoder", save_tiny_kandinsky(tmp_path / "decoder"))
    prior = publish("kandinsky-community/kandinsky-2-2-prior", save_tiny_kandinsky_prior(tmp_path / "prior"), OTHER)
    for unused in ("prior", "text_encoder", "tokenizer"):
        shutil.rmtree(prior / "snapshots" / OTHER / unused)
    identity = load_generator(GeneratorConfig(name="kandinsky-2.2", model="someone/decoder", device="cpu")).identity
    assert identity.model == "someone/decoder + kandinsky-community/kandinsky-2-2-prior/image_encoder"
    assert identity.revision == f"{COMMIT} + {OTHER}"


def test_a_safety_checker_is_neither_fetched_nor_loaded(publish, tmp_path, caplog):
    folder = save_tiny_stable_diffusion(tmp_path / "sd")
    index = folder / "model_index.json"
    content = json.loads(index.read_text()) | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "requires_safety_checker": True,
    }
    index.write_text(json.dumps(content))
    before = hash_checkpoint(folder, ("safety_checker",))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.safetensors").write_text("not read")
    config = GeneratorConfig(name="stable-diffusion", model=str(folder), device="cpu")
    assert load_generator(config).identity.revision == before
    publish("someone/sd", folder)
    load_generator(GeneratorConfig(name="stable-diffusion", model="someone/sd", device="cpu"))
    assert "safety" not in caplog.text


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_hub_id_in_the_cache_is_pinned_to_its_commit(hub_cache, tiny_folder, revision):
    checkpoint = locate("someone/tiny", revision=revision)
    assert checkpoint.identity.model == "someone/tiny"
    assert checkpoint.identity.revision == COMMIT
    assert hash_checkpoint(checkpoint.folder) == hash_checkpoint(tiny_folder)


def test_a_variant_on_the_hub_is_told_from_the_other_weights(publish, tiny_folder, tmp_path):
    publish("someone/half", as_variant(shutil.copytree(tiny_folder, tmp_path / "half"), "fp16"))
    assert locate("someone/half").identity.revision == f"{COMMIT}+fp16"
    load_generator(GeneratorConfig(model="someone/half", device="cpu"))


def test_a_hub_id_without_network(hub_cache):
    with pytest.raises(
        GeneratorError,
        match=r"nobody/nothing at revision v2 is not in the local cache and cannot be fetched .* local folder",
    ):
        locate("nobody/nothing", revision="v2")


def test_a_hub_id_of_another_pipeline(hub_cache):
    index = hub_cache / "snapshots" / COMMIT / "model_index.json"
    index.write_text(index.read_text().replace("StableUnCLIPImg2ImgPipeline", "KandinskyPipeline"))
    with pytest.raises(GeneratorError, match="someone/tiny is a KandinskyPipeline"):
        locate("someone/tiny")


def test_importing_generators_imports_no_torch():
    code = "import sys, augcond.generators.loading; print({'torch', 'diffusers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
