"""What tests of several generators share: diffusers' own pipelines, and noise as the generators draw it."""

import numpy as np
import pytest
import torch
from PIL import Image

from augcond.conditioning.base import Conditioning
from augcond.conditioning.streams import INITIAL_NOISE, torch_stream
from augcond.generators import load_generator
from augcond.generators.loading import quiet_progress
from augcond.generators.schedulers import SchedulerFactory

SEEDS = [11, 2**62 + 5, 7, 11_000]


def load(kind, folder):
    """Return diffusers' own pipeline of a tiny checkpoint."""
    extra = {"safety_checker": None} if "StableDiffusionI" in kind.__name__ else {}
    with quiet_progress():
        pipeline = kind.from_pretrained(folder, local_files_only=True, **extra)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(seeds, *shape):
    """Return initial noise, and the generators as they are after drawing it."""
    generators = [torch_stream(seed, INITIAL_NOISE) for seed in seeds]
    return torch.cat([torch.randn(1, *shape, generator=generator) for generator in generators]), generators


def latents_of(pipeline, scheduler, steps, seeds, **call):
    """Return the latents that the pipeline's own call makes of the seeds' noise."""
    own = pipeline.scheduler
    try:
        pipeline.scheduler = SchedulerFactory(scheduler, own, steps).new("cpu")
        latents, generators = noise(seeds, 4, 8, 8)
        return pipeline(
            latents=latents, generator=generators, num_inference_steps=steps, output_type="latent", **call
        ).images
    finally:
        pipeline.scheduler = own


def decoded(pipeline, latents):
    config = pipeline.vae.config
    with torch.inference_mode():
        return pipeline.vae.decode(latents / config.scaling_factor + (config.shift_factor or 0)).sample


def assert_batch_equals_rows(generator, conditioning, seeds):
    together, errors = generator.sample(conditioning, seeds)
    assert errors == [None] * len(seeds)
    # Random decoders exceed [-1, 1] by far, and their rounding errors with them.
    tolerance = 1e-5 * max(1.0, float(together.abs().max()))
    for row, seed in enumerate(seeds):
        alone, _ = generator.sample(conditioning.take([row]), [seed])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=tolerance)
    return together


def assert_rows_keep_their_own(generator, conditioning, seeds):
    """Each row follows its own embedding and no other's, wherever it stands in the batch."""
    straight, _ = generator.sample(conditioning, seeds)
    tolerance = 1e-5 * max(1.0, float(straight.abs().max()))
    order = [2, 0, 3, 1]
    shuffled, _ = generator.sample(conditioning.take(order), [seeds[row] for row in order])
    torch.testing.assert_close(shuffled, straight[order], rtol=0, atol=tolerance)
    for row in range(3):
        embeddings = conditioning.embeddings.clone()
        embeddings[row] = -embeddings[row]
        changed = type(conditioning)(embeddings, conditioning.with_image, conditioning.prompts)
        images, _ = generator.sample(changed, seeds)
        differs = (images - straight).abs().flatten(1).amax(1) > 10 * tolerance
        assert differs.nonzero().flatten().tolist() == [row]


def assert_bad_weights_are_not_read(config, monkeypatch, error, message):
    """What cannot work is refused by the configs: no weights are read, not even to hash them."""

    def read(*_, **__):
        raise AssertionError("something large was read")

    monkeypatch.setattr("augcond.generators.weights.file_sha256", read)
    monkeypatch.setattr("safetensors.torch.load_file", read)
    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", read)
    with pytest.raises(error, match=message):
        load_generator(config)


PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")


def photos():
    """Return four pictures that an encoder has to resize."""
    made = []
    for row in range(4):
        noisy = Image.fromarray(np.random.default_rng(row).integers(0, 255, (40, 50, 3), dtype=np.uint8))
        made.append(noisy.rotate(20 * row, fillcolor=(9 + 60 * row, 200, 30)).resize((50 + row, 40)))
    return made


def token_rows(generator, count=4, without=()):
    """Return rows of random tokens and different prompts, some of them without an image."""
    embeddings = torch.randn(count, *generator.embedding_shape, generator=torch.Generator().manual_seed(5))
    with_image = torch.tensor([row not in without for row in range(count)])
    embeddings[~with_image] = 0
    return Conditioning(embeddings, with_image, PROMPTS[:count])


def assert_failed_rows_are_made_again(half, full, conditioning):
    """What is not finite in bfloat16 is made once more in float32, with every network in it, and all go back.

    Args:
        half: a generator in bfloat16, whose first row of each call will fail.
        full: the same in float32.
        conditioning: of four rows.
    """
    networks = (half._denoiser.network, half._vae, *half._others)
    assert {network.dtype for network in networks} == {torch.bfloat16}
    forward = half._denoiser.network.forward

    def breaking(*inputs, **named):
        (made,) = forward(*inputs, **named)
        if made.dtype == torch.bfloat16:
            made[0] = float("nan")
        return (made,)

    half._denoiser.network.forward = breaking
    try:
        images, errors = half.sample(conditioning, SEEDS)
    finally:
        del half._denoiser.network.forward
    assert errors == [None] * 4
    assert {network.dtype for network in networks} == {torch.bfloat16}
    expected, _ = full.sample(conditioning, SEEDS)
    assert ((images - expected).abs().flatten(1).mean(1) < 0.1 * expected.std()).all()
