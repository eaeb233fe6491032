"""Stable Diffusion 3.5 with its IP-Adapter, against diffusers' own pipelines."""

import shutil
from functools import cache

import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from transformers import SiglipImageProcessor, SiglipVisionModel

from augcond.conditioning import InitialImage
from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.generators.denoising import encode_pixels
from augcond.generators.loading import errors_only
from augcond.testing import TinyShape, save_tiny_sd3, save_tiny_sd3_ip_adapter, save_tiny_siglip
from tests.generators.pipelines import (
    PROMPTS,
    SEEDS,
    assert_bad_weights_are_not_read,
    assert_batch_equals_rows,
    assert_failed_rows_are_made_again,
    assert_rows_keep_their_own,
    decoded,
    load,
    noise,
    photos,
    token_rows,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    save_tiny_sd3(root / "sd3")
    save_tiny_sd3_ip_adapter(root / "adapter", root / "sd3")
    save_tiny_siglip(root / "siglip")
    return root


@pytest.fixture(scope="module")
def config(folder):
    def make(*, own=None, adapter=None, **settings):
        defaults = {"name": "sd3-ip-adapter", "model": str(folder / "sd3"), "scheduler": "default"}
        defaults |= {"steps": 4, "device": "cpu", "guidance_scale": 3.0}
        section = {"model": str(folder / "adapter"), "scale": 1.0, **(adapter or {})}
        own = {"adapter": section, "image_encoder": {"model": str(folder / "siglip")}, **(own or {})}
        return GeneratorConfig(**{**defaults, **settings}, own=own)

    return make


@pytest.fixture(scope="module")
def make(config):
    loaded = {}

    def generator(**settings):
        key = repr(sorted(settings.items()))
        if key not in loaded:
            loaded[key] = load_generator(config(**settings))
        return loaded[key]

    return generator


@pytest.fixture(scope="module")
def pipeline(folder):
    """Loads diffusers' own pipeline with the adapter."""

    @cache
    def own(kind=StableDiffusion3Pipeline):
        made = load(kind, folder / "sd3")
        with errors_only():
            made.register_modules(
                image_encoder=SiglipVisionModel.from_pretrained(folder / "siglip"),
                feature_extractor=SiglipImageProcessor.from_pretrained(folder / "siglip"),
            )
        made.load_ip_adapter(str(folder / "adapter"), local_files_only=True)
        made.set_ip_adapter_scale(1.0)
        return made

    return own


def told(conditioning, row):
    """What the pipeline is told of a row: its prompt, and zeros before its embedding."""
    embedding = conditioning.embeddings[row]
    both = torch.stack([torch.zeros_like(embedding), embedding])
    return {"prompt": PROMPTS[row], "ip_adapter_image_embeds": both, "max_sequence_length": 256}


def test_equals_the_pipelines_own_call(make, pipeline):
    """With images, and without one, which to the adapter is an image of zeros."""
    generator, own = make(own={"negative_prompt": "blurred"}), pipeline()
    embeddings = generator.encode_images(torch.stack([generator.view(each) for each in photos()]))
    with_image = torch.tensor([True, False, True, True])
    conditioning = Conditioning(torch.where(with_image[:, None, None], embeddings, 0.0), with_image, PROMPTS)
    images, errors = generator.sample(conditioning, SEEDS)
    assert errors == [None] * 4
    for row in (0, 1, 3):
        latents = own(
            **told(conditioning, row),
            negative_prompt="blurred",
            latents=noise([SEEDS[row]], 4, 8, 8)[0],
            num_inference_steps=4,
            guidance_scale=3.0,
            output_type="latent",
        ).images
        torch.testing.assert_close(images[row : row + 1], decoded(own, latents), rtol=0, atol=1e-4)


def test_encodes_as_the_pipeline_does(make, pipeline):
    generator = make()
    assert (generator.embedding_shape, generator.encoder_size) == ((16, 16), 32)
    views = torch.stack([generator.view(each) for each in photos()])
    with torch.inference_mode():
        expected = pipeline().encode_image(photos(), "cpu")
    torch.testing.assert_close(generator.encode_images(views), expected, rtol=0, atol=1e-5)


def test_real_guidance_equals_the_image_to_image_pipeline(make, pipeline):
    """Rows that start from an image beside rows that do not, with and without an embedding."""
    generator, own = make(), pipeline(StableDiffusion3Img2ImgPipeline)
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    initial = (InitialImage(pictures[0], 0.5), None, InitialImage(pictures[1], 0.5), None)
    plain = token_rows(generator, without={0, 1})
    conditioning = Conditioning(plain.embeddings, plain.with_image, PROMPTS, initial=initial)
    images = assert_batch_equals_rows(generator, conditioning, SEEDS)
    with torch.inference_mode():
        clean = encode_pixels(own.vae, pictures * 2 - 1)
    for row, latents in ((0, clean[:1]), (2, clean[1:])):
        made = own(
            **told(conditioning, row),
            image=latents,
            strength=0.5,
            num_inference_steps=4,
            guidance_scale=3.0,
            generator=noise([SEEDS[row]], 0)[1][0],
            output_type="latent",
        ).images
        torch.testing.assert_close(images[row : row + 1], decoded(own, made), rtol=0, atol=1e-4)


def test_batches_rows_and_their_own_images(make):
    generator = make(guidance_interval=(0.0, 0.6))
    conditioning = token_rows(generator, without={3})
    assert_batch_equals_rows(generator, conditioning, SEEDS)
    assert_rows_keep_their_own(generator, conditioning, SEEDS)


def test_the_scale_is_the_weight_of_the_image(make):
    off, weak, full = make(adapter={"scale": 0.0}), make(adapter={"scale": 0.3}), make()
    conditioning = token_rows(full)
    turned = Conditioning(-conditioning.embeddings, conditioning.with_image, PROMPTS)

    def change(generator):
        one, other = generator.sample(conditioning, SEEDS)[0], generator.sample(turned, SEEDS)[0]
        return float((one - other).abs().mean())

    assert change(off) == 0
    assert 0 < change(weak) < change(full)


def test_kept_blocks(make):
    whole, kept = make(), make(cache={"interval": 2, "branch": 1}, guidance_interval=(0.3, 1.0))
    conditioning = token_rows(kept, without={1})
    images = assert_batch_equals_rows(kept, conditioning, SEEDS)
    assert (images - whole.sample(conditioning, SEEDS)[0]).abs().max() > 1e-4


def test_rows_that_fail_in_half_precision_are_made_once_more(make):
    half = make(dtype="bfloat16")
    assert_failed_rows_are_made_again(half, make(), token_rows(half, without={1}))


def test_the_identity_names_all_three(folder, make, config):
    identity = make().identity
    assert identity.model == "sd3 + adapter/ip-adapter.safetensors + siglip"
    assert len(set(identity.revision.split(" + "))) == 3
    shutil.copytree(folder / "siglip", folder / "moved")
    assert make(own={"image_encoder": {"model": str(folder / "moved")}}).identity.revision == identity.revision


REFUSED = {
    "size": ({"size": 18}, ConfigError, r"multiples of 4 pixels; 18 is not one, 16 is"),
    "large": (
        {"size": 68},
        ConfigError,
        r"generator\.size: this model knows places up to 64 pixels .* 68 is too large",
    ),
    "scheduler": ({"scheduler": "ddim"}, ConfigError, "was trained by flow matching, so it takes default, flow-euler"),
    "branch": ({"cache": {"branch": 3}}, ConfigError, r"generator\.cache\.branch: this transformer has blocks 0 to 2"),
    "pickle": ({"adapter": {"weights": "ip-adapter.bin"}}, ConfigError, "is not a safetensors file; pickled weights"),
    "no file": ({"adapter": {"weights": "x.safetensors"}}, GeneratorError, r"adapter has no file x\.safetensors"),
    "revision": ({"adapter": {"revision": "main"}}, ConfigError, r"adapter\.revision: .* is a folder"),
    "no folder": ({"own": {"image_encoder": {"model": "./x"}}}, ConfigError, r"image_encoder\.model: no folder ./x"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_made_is_refused_before_anything_large_is_read(config, monkeypatch, what):
    settings, error, message = REFUSED[what]
    assert_bad_weights_are_not_read(config(**settings), monkeypatch, error, message)


def test_adapters_and_encoders_that_do_not_fit(folder, config, monkeypatch, tmp_path):
    def refused(error, message, *, adapter=folder / "adapter", encoder=folder / "siglip"):
        made = config(adapter={"model": str(adapter)}, own={"image_encoder": {"model": str(encoder)}})
        assert_bad_weights_are_not_read(made, monkeypatch, error, message)

    weights = load_file(folder / "adapter" / "ip-adapter.safetensors")
    wide = save_tiny_siglip(tmp_path / "wide", shape=TinyShape(embedding=24))
    refused(GeneratorError, "is for images of 16 features; here it is 24: it was trained for another", encoder=wide)
    other = tmp_path / "other"
    other.mkdir()
    fewer = {name: tensor for name, tensor in weights.items() if not name.startswith("ip_adapter.2.")}
    save_file(fewer, other / "ip-adapter.safetensors")
    refused(GeneratorError, "is for 2 attentions; here it is 3", adapter=other)
    save_file({"x": weights["image_proj.latents"]}, other / "ip-adapter.safetensors")
    refused(ConfigError, "is no IP-Adapter of Stable Diffusion 3", adapter=other)
    (other / "ip-adapter.safetensors").write_bytes(b"nothing")
    refused(GeneratorError, r"ip-adapter\.safetensors cannot be read", adapter=other)
    (wide / "preprocessor_config.json").unlink()
    refused(GeneratorError, r"wide has no preprocessor_config\.json; name the folder of a SigLIP", encoder=wide)
    (wide / "model.safetensors").unlink()
    refused(GeneratorError, r"image_encoder\.model: .*wide holds no safetensors weights", encoder=wide)


def test_an_encoder_that_lacks_weights(folder, config, tmp_path):
    """Libraries would draw them at random."""
    broken = shutil.copytree(folder / "siglip", tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    gone = next(name for name in weights if "vision_model.encoder" in name)
    save_file({name: tensor for name, tensor in weights.items() if name != gone}, broken / "model.safetensors")
    with pytest.raises(GeneratorError, match="is no SiglipVisionModel: it lacks 1 weights, such as "):
        load_generator(config(own={"image_encoder": {"model": str(broken)}}))
