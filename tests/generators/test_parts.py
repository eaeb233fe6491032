"""LoRAs and other autoencoders: against diffusers' own, in the identity, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.testing import (
    TinyShape,
    save_tiny_ip_adapter,
    save_tiny_kandinsky,
    save_tiny_stable_diffusion,
    save_tiny_stable_diffusion_xl,
)
from augcond.testing.networks import tiny_vae
from tests.generators.pipelines import SEEDS, decoded, latents_of, load

PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")
TEXT = Conditioning(torch.zeros(4, 0), torch.zeros(4, dtype=torch.bool), PROMPTS)
PARTS = {"unet": ("to_q", "to_v", "proj_in"), "text_encoder": ("q_proj", "v_proj")}


def save_lora(folder, kind, model, seed=0, parts=("unet", "text_encoder")):
    """Save a LoRA of rank 2 for a tiny pipeline, as trainers do: peft's layers, written by diffusers."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import get_peft_model_state_dict

    pipeline = load(kind, model)
    layers = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in parts:
            network = getattr(pipeline, name)
            targets = list(PARTS[name.removesuffix("_2")])
            inject_adapter_in_model(
                LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False), network
            )
            layers[f"{name}_lora_layers"] = get_peft_model_state_dict(network, adapter_name="default")
    kind.save_lora_weights(folder, **layers)
    return folder


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    from diffusers import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("sd")
    model = save_tiny_stable_diffusion(folder / "model")
    save_lora(folder / "style", StableDiffusionPipeline, model)
    save_lora(folder / "domain", StableDiffusionPipeline, model, seed=1, parts=("unet",))
    return folder


def config_of(sd, **values):
    defaults = {"name": "stable-diffusion", "model": str(sd / "model"), "steps": 4, "device": "cpu"}
    return GeneratorConfig.model_validate({**defaults, "scheduler": "ddim", **values})


def lora(folder, **values):
    return {"model": str(folder), **values}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_loras_change_images_as_those_of_diffusers_do(sd, monkeypatch):
    from diffusers import StableDiffusionPipeline

    # transformers 5.24 wants a peft that is not published; of what is called here nothing is missing in those that are.
    monkeypatch.setattr("transformers.integrations.peft.check_peft_version", lambda min_version: None)

    generator = load_generator(config_of(sd, lora=[lora(sd / "style", scale=0.7), lora(sd / "domain", scale=-0.4)]))
    images, errors = generator.sample(TEXT, SEEDS)
    assert errors == [None] * 4
    pipeline = load(StableDiffusionPipeline, sd / "model")
    pipeline.load_lora_weights(sd / "style", adapter_name="style")
    pipeline.load_lora_weights(sd / "domain", adapter_name="domain")
    pipeline.set_adapters(["style", "domain"], [0.7, -0.4])
    latents = latents_of(pipeline, "ddim", 4, SEEDS, prompt=list(PROMPTS), guidance_scale=3.0)
    expected = decoded(pipeline, latents)
    tolerance = 1e-4 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(images, expected, rtol=0, atol=tolerance)
    plain, _ = load_generator(config_of(sd)).sample(TEXT, SEEDS)
    assert (images - plain).abs().amax(dim=(1, 2, 3)).min() > 100 * tolerance
    nothing, _ = load_generator(config_of(sd, lora=[lora(sd / "style", scale=0)])).sample(TEXT, SEEDS)
    assert torch.equal(nothing, plain)


def test_names_and_strengths_as_other_trainers_write_them(sd, tmp_path):
    weights = load_file(sd / "style" / "pytorch_lora_weights.safetensors")
    kohya = {}
    for name, value in weights.items():
        path, role = name.removesuffix(".weight").split(".lora_")
        path = path.replace("text_encoder.text_model.", "text_encoder.").replace("text_encoder.", "te.text_model.")
        path = f"lora_{path.replace('.', '_')}"
        kohya[f"{path}.lora_{'down' if role == 'A' else 'up'}.weight"] = value
        kohya[f"{path}.alpha"] = torch.tensor(0.5)  # of rank 2: a quarter
    save_file(kohya, tmp_path / "kohya.safetensors")
    other = load_generator(config_of(sd, lora=[lora(tmp_path, weights="kohya.safetensors")]))
    expected, _ = load_generator(config_of(sd, lora=[lora(sd / "style", scale=0.25)])).sample(TEXT, SEEDS)
    torch.testing.assert_close(other.sample(TEXT, SEEDS)[0], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_lora_is_part_of_the_identity(sd, tmp_path):
    base = load_generator(config_of(sd)).identity
    first = load_generator(config_of(sd, lora=[lora(sd / "domain")])).identity
    file = "pytorch_lora_weights.safetensors"
    assert first.model == f"{base.model} + domain/{file}"
    assert first.revision.startswith(f"{base.revision} + sha256:")
    # Its contents count, not where it lies.
    moved = shutil.copytree(sd / "domain", tmp_path / "domain")
    assert load_generator(config_of(sd, lora=[lora(moved)])).identity == first
    weights = load_file(moved / file)
    save_file({name: -value for name, value in weights.items()}, moved / file)
    assert load_generator(config_of(sd, lora=[lora(moved)])).identity.revision != first.revision


def test_unclip_and_sdxl_take_loras(tmp_path, tiny_folder, tiny_config, conditioning):
    from diffusers import StableDiffusionXLPipeline, StableUnCLIPImg2ImgPipeline

    unclip = save_lora(tmp_path / "unclip", StableUnCLIPImg2ImgPipeline, tiny_folder)
    plain = load_generator(tiny_config(scheduler="lcm")).generate(conditioning, SEEDS)
    changed = load_generator(tiny_config(scheduler="lcm", lora=[lora(unclip)])).generate(conditioning, SEEDS)
    assert changed.errors == (None,) * 4
    assert not torch.equal(plain.images, changed.images)

    model = save_tiny_stable_diffusion_xl(tmp_path / "xl")
    save_lora(tmp_path / "style", StableDiffusionXLPipeline, model, parts=("unet", "text_encoder", "text_encoder_2"))
    adapter = save_tiny_ip_adapter(tmp_path / "adapter", model)
    values = {"name": "ip-adapter-xl", "model": str(model), "own": {"adapter": {"model": str(adapter)}}}
    values |= {"steps": 3, "device": "cpu", "scheduler": "tcd"}
    plain = load_generator(GeneratorConfig.model_validate(values))
    styled = load_generator(GeneratorConfig.model_validate({**values, "lora": [lora(tmp_path / "style")]}))
    assert " + style/pytorch_lora_weights.safetensors + adapter/" in styled.identity.model
    images = styled.generate(conditioning, SEEDS)
    assert images.errors == (None,) * 4
    assert not torch.equal(images.images, plain.generate(conditioning, SEEDS).images)


def test_loras_that_are_refused(sd, tmp_path, tiny_folder):
    def refused(error, match, **values):
        with pytest.raises(error, match=match):
            load_generator(config_of(sd, lora=[lora(**{"folder": tmp_path, **values})]))

    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04pickle")
    refused(ConfigError, "'style.bin' is not a safetensors file; pickled weights are not loaded", weights="style.bin")
    refused(GeneratorError, "no whole safetensors file .* renamed pickles", weights="pickle.safetensors")
    refused(GeneratorError, "has no file missing.safetensors", weights="missing.safetensors")
    other = {name: torch.zeros(2) for name in ("unet.conv_in.weight", "unet.conv_in.bias")}
    save_file(other, tmp_path / "model.safetensors")
    refused(GeneratorError, "is no LoRA: it holds other weights", weights="model.safetensors")
    weights = load_file(sd / "domain" / "pytorch_lora_weights.safetensors")
    wide = {name: torch.cat([value, value], dim=int("lora_A" in name)) for name, value in weights.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    refused(GeneratorError, "trained for another model: this one has no unet.*proj_in", weights="wide.safetensors")
    deep = {name.replace("blocks.0", "blocks.7"): value for name, value in weights.items()}
    save_file(deep, tmp_path / "deep.safetensors")
    refused(GeneratorError, r"another model: this one has no unet\.down_blocks\.7", weights="deep.safetensors")
    bias = weights | {"unet.conv_in.lora_B.bias": torch.zeros(16)}
    save_file(bias, tmp_path / "bias.safetensors")
    refused(GeneratorError, "unet.conv_in.lora_B.bias is none of its weights", weights="bias.safetensors")
    save_file({"lora_unet_conv_in.dora_scale": torch.ones(1)}, tmp_path / "dora.safetensors")
    refused(GeneratorError, "is a DoRA, LoKr or LoHa", weights="dora.safetensors")
    nan = {name: torch.full_like(value, float("nan")) for name, value in weights.items()}
    save_file(nan, tmp_path / "nan.safetensors")
    refused(GeneratorError, "has NaN or infinite weights for unet", weights="nan.safetensors")


def test_families_that_take_neither(tmp_path):
    decoder = save_tiny_kandinsky(tmp_path / "decoder")
    for key, value in (("lora", [lora(tmp_path)]), ("vae", "tiny")):
        with pytest.raises(ConfigError, match=rf"generator\.{key}: kandinsky-2\.2 takes no"):
            load_generator(GeneratorConfig.model_validate({"name": "kandinsky-2.2", "model": str(decoder), key: value}))
    with pytest.raises(ConfigError, match=r"generator\.cache: fake takes no cache"):
        load_generator(GeneratorConfig(name="fake", cache={"interval": 2}))


def test_a_tiny_autoencoder_in_the_place_of_the_own(sd, tmp_path):
    tiny = tiny_vae(TinyShape(autoencoder="tiny"))
    tiny.save_pretrained(tmp_path / "taesd")
    plain = load_generator(config_of(sd))
    generator = load_generator(config_of(sd, vae=str(tmp_path / "taesd")))
    images, errors = generator.sample(TEXT, SEEDS)
    assert errors == [None] * 4
    from diffusers import StableDiffusionPipeline

    pipeline = load(StableDiffusionPipeline, sd / "model")
    latents = latents_of(pipeline, "ddim", 4, SEEDS, prompt=list(PROMPTS), guidance_scale=3.0)
    with torch.inference_mode():
        expected = tiny.decode(latents).sample
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))
    assert generator.identity.model == f"{plain.identity.model} + taesd"
    assert generator.identity.revision.startswith(f"{plain.identity.revision} + sha256:")


def test_autoencoders_that_are_refused(sd, tmp_path):
    def refused(error, match, vae):
        with pytest.raises(error, match=match):
            load_generator(config_of(sd, vae=vae))

    refused(ConfigError, r"generator\.vae.*no folder ./nowhere", "./nowhere")
    refused(GeneratorError, "lacks config.json and diffusion_pytorch_model", str(tmp_path))
    other = tmp_path / "other"
    tiny_vae(TinyShape(autoencoder="tiny", vae_scale=4)).save_pretrained(other)
    refused(ConfigError, "latents of 4 channels, one for 4 pixels; this model's own has 4, one for 2", str(other))
    (other / "config.json").write_text(json.dumps({"_class_name": "AutoencoderOobleck"}))
    refused(GeneratorError, "is a AutoencoderOobleck; expected one of AutoencoderTiny, AutoencoderKL", str(other))
