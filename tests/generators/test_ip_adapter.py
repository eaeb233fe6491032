"""Stable Diffusion 1.5 and XL with base and plus adapters, each against diffusers' own pipeline."""

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from augcond.conditioning import InitialImage
from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.testing import (
    TinyShape,
    save_tiny_ip_adapter,
    save_tiny_stable_diffusion,
    save_tiny_stable_diffusion_xl,
)
from tests.generators.pipelines import (
    SEEDS,
    assert_batch_equals_rows,
    assert_rows_keep_their_own,
    decoded,
    latents_of,
    load,
)

PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")
PLUS = {"sd": "models/ip-adapter-plus_sd15.safetensors", "xl": "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors"}
BASE = {"sd": "models/ip-adapter_sd15.safetensors", "xl": "sdxl_models/ip-adapter_sdxl.safetensors"}
NAMES = {"sd": "ip-adapter", "xl": "ip-adapter-xl"}
ALL = [(version, kind) for version in ("sd", "xl") for kind in ("base", "plus")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    save_tiny_stable_diffusion(root / "sd")
    save_tiny_stable_diffusion_xl(root / "xl")
    for version, kind in ALL:
        save_tiny_ip_adapter(root / "adapters", root / version, kind)
    return root


@pytest.fixture(scope="module")
def make(folder):
    loaded = {}

    def generator(version="sd", kind="base", *, adapter=None, own=None, **settings):
        key = repr((version, kind, adapter, own, sorted(settings.items())))
        if key not in loaded:
            weights = None if kind == "base" else PLUS[version]
            section = {"model": str(folder / "adapters"), "weights": weights, **(adapter or {})}
            defaults = {"name": NAMES[version], "model": str(folder / version), "steps": 4, "device": "cpu"}
            loaded[key] = load_generator(
                GeneratorConfig(**{**defaults, **settings}, own={"adapter": section, **(own or {})})
            )
        return loaded[key]

    return generator


def rows(generator, count=4, without=()):
    embeddings = torch.randn(count, *generator.embedding_shape, generator=torch.Generator().manual_seed(5))
    with_image = torch.tensor([row not in without for row in range(count)])
    embeddings[~with_image] = 0
    return Conditioning(embeddings, with_image, PROMPTS[:count])


@pytest.fixture(scope="module")
def pipeline(folder):
    """Loads diffusers' own pipeline with an adapter."""

    def own(version, kind, scale):
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        made = load(StableDiffusionPipeline if version == "sd" else StableDiffusionXLPipeline, folder / version)
        parent, _, name = (BASE if kind == "base" else PLUS)[version].partition("/")
        encoder = "image_encoder" if (version, kind) != ("xl", "plus") else "models/image_encoder"
        made.load_ip_adapter(
            str(folder / "adapters"),
            subfolder=parent,
            weight_name=name,
            image_encoder_folder=encoder,
            local_files_only=True,
        )
        made.set_ip_adapter_scale(scale)
        return made

    return own


def alone(own, conditioning, unconditional, **settings):
    """What the pipeline makes of each row alone: of several, it repeats all embeddings for every prompt."""
    made = []
    for row, seed in enumerate(SEEDS):
        embedding = torch.stack([unconditional[0], conditioning.embeddings[row]])[:, None]
        latents = latents_of(
            own,
            "ddim",
            4,
            [seed],
            prompt=conditioning.prompts[row],
            ip_adapter_image_embeds=[embedding],
            **settings,
        )
        made.append(decoded(own, latents))
    return torch.cat(made)


@pytest.mark.parametrize(("version", "kind"), [("sd", "base"), ("xl", "plus")])
def test_led_away_from_an_image_it_equals_the_pipelines_own_call(pipeline, make, version, kind):
    generator = make(version, kind, scheduler="ddim", guidance_scale=3.0, adapter={"scale": 0.7})
    conditioning = rows(generator)
    away = torch.randn(1, *generator.embedding_shape, generator=torch.Generator().manual_seed(9))
    given = replace(conditioning, away=away.expand_as(conditioning.embeddings))
    images, errors = generator.sample(given, SEEDS)
    assert errors == [None] * 4
    expected = alone(pipeline(version, kind, 0.7), conditioning, away, guidance_scale=3.0)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_equals_the_pipelines_own_call(pipeline, make, version, kind):
    generator = make(version, kind, scheduler="ddim", guidance_scale=3.0, adapter={"scale": 0.7})
    conditioning = rows(generator)
    images, errors = generator.sample(conditioning, SEEDS)
    own = pipeline(version, kind, 0.7)
    photo = Image.new("RGB", (40, 30), (200, 30, 90))
    _, unconditional = own.encode_image(photo, "cpu", 1, kind == "plus")
    assert errors == [None] * 4
    expected = alone(own, conditioning, unconditional, guidance_scale=3.0)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_encodes_as_the_pipeline_does(pipeline, make, version, kind):
    generator = make(version, kind)
    assert generator.embedding_shape == ((16,) if kind == "base" else (17, 16))
    photo = Image.effect_noise((50, 40), 60).convert("RGB").rotate(20, fillcolor=(9, 200, 30))
    with torch.inference_mode():
        expected, zero = pipeline(version, kind, 1.0).encode_image(photo, "cpu", 1, kind == "plus")
    torch.testing.assert_close(generator.encode_images(generator.view(photo)[None]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(generator._no_image[None], zero, rtol=0, atol=1e-6)
    assert bool(zero.any()) == (kind == "plus")


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_batches_rows_and_their_own_embeddings(make, version, kind):
    generator = make(version, kind, scheduler="euler-ancestral")
    conditioning = rows(generator, without={3})
    assert_batch_equals_rows(generator, conditioning, SEEDS)
    assert_rows_keep_their_own(generator, conditioning, SEEDS)


@pytest.mark.parametrize(("version", "kind"), ALL)
def test_the_unconditional_image_input(make, monkeypatch, version, kind):
    generator = make(version, kind, steps=1, scheduler="ddim", guidance_scale=4.0)
    conditioning = rows(generator, without={1})
    calls = []
    forward = generator._denoiser.network.forward

    def recorded(sample, *args, **kwargs):
        calls.append(kwargs["added_cond_kwargs"]["image_embeds"])
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(generator._denoiser.network, "forward", recorded)
    generator.generate(conditioning, SEEDS)
    ((embeddings,),) = calls
    unconditional, conditional = embeddings.chunk(2)
    assert conditional.shape == (4, 1, *generator.embedding_shape)
    none = torch.zeros(16) if kind == "base" else generator._image_encoder.encode_zero_image()
    for told in (*unconditional, conditional[1]):
        assert torch.equal(told[0], none)
    for row in (0, 2, 3):
        assert torch.equal(conditional[row, 0], conditioning.embeddings[row])


def test_the_scale_is_the_weight_of_the_image(make):
    off, weak, full = (make(scheduler="ddim", adapter={"scale": scale}) for scale in (0.0, 0.3, 1.0))
    conditioning = rows(full)
    turned = Conditioning(conditioning.embeddings.flip(0), conditioning.with_image, PROMPTS)

    def change(generator):
        one, other = generator.sample(conditioning, SEEDS)[0], generator.sample(turned, SEEDS)[0]
        return float((one - other).abs().mean())

    assert change(off) == 0
    assert 0 < change(weak) < change(full)


def test_xl_takes_zeros_for_no_negative_prompt_and_an_embedding_for_one(make, pipeline):
    with_words = make("xl", scheduler="ddim", guidance_scale=3.0, own={"negative_prompt": "blurred"})
    conditioning = rows(with_words)
    images, _ = with_words.sample(conditioning, SEEDS)
    own = pipeline("xl", "base", 1.0)
    expected = alone(own, conditioning, torch.zeros(1, 16), guidance_scale=3.0, negative_prompt="blurred")
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


def test_xl_decodes_in_float32_where_its_config_says_so(make):
    generator = make("xl", dtype="float16", steps=1)
    assert generator._denoiser.network.dtype == torch.float16
    assert generator._vae.dtype == torch.float32


def test_an_initial_image_may_stand_beside_the_embedding(make):
    generator = make(scheduler="ddim")
    plain = rows(generator, 2)
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3))
    started = Conditioning(
        plain.embeddings, plain.with_image, plain.prompts, initial=(InitialImage(picture, 0.5), None)
    )
    one, _ = generator.sample(plain, SEEDS[:2])
    other, _ = generator.sample(started, SEEDS[:2])
    assert (one[0] - other[0]).abs().max() > 1e-3
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=1e-5)


def test_the_identity_names_both_and_follows_the_adapters_contents(folder, make, tmp_path):
    base, plus = make().identity, make(kind="plus").identity
    assert base.model == "sd + adapters/models/ip-adapter_sd15.safetensors"
    assert plus.model == f"sd + adapters/{PLUS['sd']}"
    assert base.revision.split(" + ")[0] == plus.revision.split(" + ")[0]
    assert base.revision != plus.revision
    copy = shutil.copytree(folder / "adapters", tmp_path / "adapters")
    assert make(adapter={"model": str(copy)}).identity == base
    weights = copy / BASE["sd"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert make(adapter={"model": str(copy)}, steps=3).identity != base


@pytest.mark.parametrize(
    ("version", "adapter", "error", "message"),
    [
        ("sd", {"weights": "models/ip-adapter_sd15.bin"}, ConfigError, "not a safetensors file; pickled"),
        ("sd", {"weights": "models/nothing.safetensors"}, GeneratorError, "has no file models/nothing.safetensors"),
        (
            "sd",
            {"image_encoder": "nowhere"},
            GeneratorError,
            "no CLIP vision model with safetensors weights in nowhere",
        ),
        (
            "sd",
            {"weights": BASE["xl"]},
            GeneratorError,
            "is for UNets whose prompts have 32 features; this one's have 16",
        ),
        (
            "sd",
            {"weights": "models/image_encoder/model.safetensors"},
            ConfigError,
            "is no IP-Adapter of the base, plus",
        ),
        ("sd", {"revision": "main"}, ConfigError, r"generator\.own\.adapter\.revision: .* is a folder"),
        ("sd", {"model": "./nowhere"}, ConfigError, r"generator\.own\.adapter\.model: no folder ./nowhere; expected a"),
    ],
)
def test_adapters_that_cannot_be_used(make, version, adapter, error, message):
    with pytest.raises(error, match=message):
        make(version, adapter=adapter)


def test_an_image_encoder_of_another_width(folder, make, tmp_path):
    other = save_tiny_ip_adapter(tmp_path / "other", folder / "sd", shape=TinyShape(embedding=24))
    mixed = shutil.copytree(folder / "adapters", tmp_path / "mixed")
    shutil.copytree(other / "models" / "image_encoder", mixed / "wide")
    with pytest.raises(GeneratorError, match="takes embeddings of 16 features; those of wide have 24"):
        make(adapter={"model": str(mixed), "image_encoder": "wide"})


def test_weights_that_are_damaged(folder, make, tmp_path):
    copy = shutil.copytree(folder / "adapters", tmp_path / "adapters")
    (copy / BASE["sd"]).write_bytes(b"nothing")
    with pytest.raises(GeneratorError, match=r"ip-adapter_sd15\.safetensors cannot be read"):
        make(adapter={"model": str(copy)})
