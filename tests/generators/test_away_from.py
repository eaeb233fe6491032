"""Guidance that leads away from an image, against a loop written out over the pipeline's own components."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from augcond.conditioning.streams import EMBEDDING_NOISE, INITIAL_NOISE, torch_stream
from augcond.config import ConditioningConfig, GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators import check_options, check_recipes

SEEDS = [11, 2**62 + 5, 7, 11_000]
SCALE, STEPS = 3.0, 5


@pytest.fixture(scope="module")
def away(conditioning):
    found = torch.randn(4, 16, generator=torch.Generator().manual_seed(9))
    found[3] = 0
    return replace(conditioning, away=found)


@pytest.fixture(scope="module")
def generator(tiny_generator):
    return tiny_generator(guidance_scale=SCALE, steps=STEPS, scheduler="ddim", own={"negative_prompt": "blurred"})


def by_hand(generator, row, seed):
    """Return the latents of one row: every network call and every step of guidance written out."""
    unet, level = generator._denoiser.network, torch.tensor([0])
    stream = torch.randn(1, 16, generator=torch_stream(seed, EMBEDDING_NOISE))

    def vector(embedding):
        scaled = generator._noising.add_noise(generator._normalizer.scale(embedding[None]), stream, level)
        # sin and cos of level 0: ones, then zeros.
        return torch.cat([generator._normalizer.unscale(scaled), torch.ones(1, 8), torch.zeros(1, 8)], dim=1)

    def text(prompt):
        return generator._prompts.encode([prompt], cached=False)

    scheduler = generator._schedulers.new("cpu")
    latents = torch.randn(1, 4, 8, 8, generator=torch_stream(seed, INITIAL_NOISE)) * scheduler.init_noise_sigma
    towards, from_there = vector(row.embeddings[0]), vector(row.away[0])
    for timestep in scheduler.timesteps:
        good = unet(latents, timestep, encoder_hidden_states=text(row.prompts[0]), class_labels=towards).sample
        bad = unet(latents, timestep, encoder_hidden_states=text("blurred"), class_labels=from_there).sample
        latents = scheduler.step(bad + SCALE * (good - bad), timestep, latents).prev_sample
    return latents


def latents_of(generator, conditioning, seeds):
    with torch.inference_mode():
        return generator._denoise(conditioning, seeds)


def test_equals_a_loop_written_out(generator, away):
    found = latents_of(generator, away, SEEDS)
    with torch.inference_mode():
        for row in range(3):
            expected = by_hand(generator, away.take([row]), SEEDS[row])
            torch.testing.assert_close(found[row : row + 1], expected, rtol=0, atol=1e-4)


def test_rows_without_an_image_are_led_away_from_none(generator, away, conditioning):
    with_away, plain = (latents_of(generator, given, SEEDS) for given in (away, conditioning))
    torch.testing.assert_close(with_away[3], plain[3], rtol=0, atol=1e-5)
    assert (with_away[:3] - plain[:3]).abs().flatten(1).amax(1).min() > 1e-3


def test_led_away_from_itself_a_row_is_not_guided_by_its_image(tiny_generator, away, generator):
    unprompted = replace(away, away=away.embeddings, prompts=("blurred",) * 4)
    found = latents_of(generator, unprompted, SEEDS)
    alone = tiny_generator(guidance_scale=1.0, steps=STEPS, scheduler="ddim", own={"negative_prompt": "blurred"})
    torch.testing.assert_close(found[:3], latents_of(alone, unprompted, SEEDS)[:3], rtol=0, atol=1e-4)


def test_what_it_is_led_away_from_is_not_dropped(conditioning):
    given = replace(conditioning, dropout=(0.4,) * 4, away=conditioning.embeddings + 1)
    found = given.led_away()
    assert torch.equal(found.embeddings, given.away)
    assert (found.dropout, found.away, found.prompts) == ((0.0,) * 4, None, given.prompts)
    assert conditioning.led_away() is None
    assert torch.equal(given.take([2, 0]).away, given.away[[2, 0]])


def test_what_cannot_be_led_away_is_refused():
    with pytest.raises(ValidationError, match="away_from needs guidance, so a guidance_scale above 1"):
        GeneratorConfig(away_from="similar-class", guidance_scale=1.0)
    with pytest.raises(ConfigError, match="stable-diffusion takes no image to lead away from"):
        check_options(GeneratorConfig(name="stable-diffusion", model="x/y", away_from="similar-class"))
    config = GeneratorConfig(away_from="similar-class")
    check_recipes(config, ConditioningConfig(recipe=("text", "image", "mixup")))
    for recipe in (("text",), ("image", "real-guidance")):
        with pytest.raises(ConfigError, match=f"{recipe[-1]} is conditioned by no image embedding"):
            check_recipes(config, ConditioningConfig(recipe=recipe))
