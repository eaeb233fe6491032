"""What tests of several generators share: diffusers' own pipelines, and noise as the generators draw it."""

import torch

from augcond.conditioning.streams import INITIAL_NOISE, torch_stream
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
    with torch.inference_mode():
        return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample


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
