from dataclasses import replace

import pytest
import torch
from PIL import Image

from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.testing import TinyShape, save_tiny_kandinsky, save_tiny_kandinsky_prior
from tests.generators.pipelines import SEEDS, assert_batch_equals_rows, assert_rows_keep_their_own, latents_of, load

PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    save_tiny_kandinsky(root / "decoder")
    save_tiny_kandinsky_prior(root / "prior")
    return root


@pytest.fixture(scope="module")
def make(folder):
    loaded = {}

    def generator(**settings):
        key = repr(sorted(settings.items()))
        if key not in loaded:
            defaults = {"name": "kandinsky-2.2", "model": str(folder / "decoder"), "steps": 4, "device": "cpu"}
            defaults["own"] = {"prior": {"model": str(folder / "prior")}}
            loaded[key] = load_generator(GeneratorConfig(**{**defaults, **settings}))
        return loaded[key]

    return generator


@pytest.fixture(scope="module")
def prior(folder):
    from diffusers import KandinskyV22PriorPipeline

    return load(KandinskyV22PriorPipeline, folder / "prior")


def rows(without=()):
    embeddings = torch.randn(4, 16, generator=torch.Generator().manual_seed(5))
    with_image = torch.tensor([row not in without for row in range(4)])
    return Conditioning(embeddings * with_image[:, None], with_image, PROMPTS)


def test_it_is_led_away_from_an_image_where_there_is_one(make):
    generator, plain = make(guidance_scale=4.0), rows(without=[3])
    away = torch.randn(4, 16, generator=torch.Generator().manual_seed(9))
    given = generator._conditions(replace(plain, away=away), SEEDS, cached=False)
    assert torch.equal(given.unconditional.arguments["added_cond_kwargs"]["image_embeds"][:3], away[:3])
    no_image = generator._conditions(plain, SEEDS, cached=False).unconditional.arguments["added_cond_kwargs"]
    assert torch.equal(
        given.unconditional.arguments["added_cond_kwargs"]["image_embeds"][3], no_image["image_embeds"][3]
    )


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", ["default", "dpmsolver++"])
def test_equals_the_pipelines_own_call(folder, make, prior, scheduler, guidance_scale):
    """`default` is DDPM with a learned variance, which the UNet predicts beside the noise."""
    from diffusers import KandinskyV22Pipeline

    conditioning = rows()
    images, errors = make(scheduler=scheduler, guidance_scale=guidance_scale).sample(conditioning, SEEDS)
    own = load(KandinskyV22Pipeline, folder / "decoder")
    latents = latents_of(
        own,
        scheduler,
        4,
        SEEDS,
        image_embeds=conditioning.embeddings,
        negative_image_embeds=prior.get_zero_embed(4),
        height=16,
        width=16,
        guidance_scale=guidance_scale,
    )
    with torch.inference_mode():
        expected = own.movq.decode(latents, force_not_quantize=True).sample
    assert errors == [None] * 4
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheduler", ["ddim", "euler-ancestral", "pndm"])
def test_schedulers_that_know_no_variance(make, scheduler):
    assert make(scheduler=scheduler, guidance_scale=4.0).generate(rows(), SEEDS).errors == (None,) * 4


def test_encodes_as_the_prior_does(make, prior):
    generator = make()
    photo = Image.effect_noise((50, 40), 60).convert("RGB").rotate(20, fillcolor=(9, 200, 30))
    pixels = prior.image_processor(photo, return_tensors="pt").pixel_values
    with torch.inference_mode():
        expected = prior.image_encoder(pixels).image_embeds
    torch.testing.assert_close(generator.encode_images(generator.view(photo)[None]), expected, rtol=0, atol=1e-5)


def test_batches_rows_and_their_own_embeddings(make):
    generator = make(scheduler="default")
    conditioning = rows(without={3})
    assert_batch_equals_rows(generator, conditioning, SEEDS)
    assert_rows_keep_their_own(generator, conditioning, SEEDS)


def test_the_unconditional_image_input_is_the_zero_images_embedding(make, prior, monkeypatch):
    generator = make(steps=1, scheduler="ddim", guidance_scale=4.0)
    conditioning = rows(without={1})
    calls = []
    forward = generator._denoiser.network.forward

    def recorded(sample, *args, **kwargs):
        calls.append(kwargs["added_cond_kwargs"]["image_embeds"])
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(generator._denoiser.network, "forward", recorded)
    generator.generate(conditioning, SEEDS)
    unconditional, conditional = calls[0].chunk(2)
    none = prior.get_zero_embed(5).detach()
    assert none.any()
    torch.testing.assert_close(torch.cat([unconditional, conditional[1:2]]), none, rtol=0, atol=1e-6)
    assert torch.equal(conditional[[0, 2, 3]], conditioning.embeddings[[0, 2, 3]])


def test_prompts_change_nothing(make):
    generator, conditioning = make(), rows()
    other = Conditioning(conditioning.embeddings, conditioning.with_image, ("something else",) * 4)
    first, second = (generator.generate(asked, SEEDS).images for asked in (conditioning, other))
    assert torch.equal(first, second)


def test_sizes(make):
    assert make(size=24, steps=1).generate(rows(), SEEDS).images.shape == (4, 24, 24, 3)
    with pytest.raises(ConfigError, match="multiples of 4 pixels; 22 is not one"):
        make(size=22)


def test_the_identity_names_both(make, folder):
    identity = make().identity
    assert identity.model == "decoder + prior/image_encoder"
    assert identity.revision.count("sha256:") == 2


def test_a_prior_that_does_not_fit(make, folder, tmp_path):
    wide = save_tiny_kandinsky_prior(tmp_path / "wide", shape=TinyShape(embedding=24))
    with pytest.raises(GeneratorError, match="takes no image embedding of 24 features"):
        make(own={"prior": {"model": str(wide)}})
    with pytest.raises(
        GeneratorError, match=r"generator\.own\.prior\.model: .* is a KandinskyV22Pipeline; this generator"
    ):
        make(own={"prior": {"model": str(folder / "decoder")}})
    broken = save_tiny_kandinsky_prior(tmp_path / "broken")
    (broken / "image_encoder" / "config.json").write_text("{")
    with pytest.raises(
        GeneratorError, match=r"generator\.own\.prior: .*image_encoder cannot be loaded as a CLIPVisionModel"
    ):
        make(own={"prior": {"model": str(broken)}})
