import math

import diffusers
import pytest
import torch

from augcond.errors import ConfigError
from augcond.generators.denoising import (
    Conditions,
    Denoiser,
    Guidance,
    GuidedConditions,
    decode_latents,
    denoise,
    encode_pixels,
    find_errors,
    initial_latents,
    start_from_latents,
    start_from_noise,
    to_uint8,
)
from augcond.generators.schedulers import SchedulerFactory


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.0, 1.0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ((0.0, 0.5), [0, 1, 2, 3, 4]),
        ((0.5, 1.0), [5, 6, 7, 8, 9]),
        ((0.2, 0.34), [2]),
        ((0.3, 0.3), []),
    ],
)
def test_the_interval_is_a_share_of_the_steps(interval, guided):
    guidance = Guidance(2.0, interval)
    assert [step for step in range(10) if guidance.applies(step, 10)] == guided
    assert not any(Guidance(1.0, interval).applies(step, 10) for step in range(10))


def test_initial_latents_are_drawn_row_by_row():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    latents = initial_latents((4, 3, 5), generators(1, 2, 1))
    assert latents.shape == (3, 4, 3, 5)
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[[1]], initial_latents((4, 3, 5), generators(2)))


def test_to_uint8_rounds_and_clips():
    row = torch.tensor([-1.5, -1.0, 0.0, 0.004, 1.0, 7.0, float("nan"), float("inf")])
    image = to_uint8(row.expand(3, 8)[None, :, None, :])
    assert image.shape == (1, 1, 8, 3)
    assert image[0, 0, :, 1].tolist() == [0, 0, 128, 128, 255, 255, 0, 0]


def test_find_errors():
    latents, images = torch.zeros(5, 4, 2, 2), torch.rand(5, 3, 4, 4)
    latents[0, 1, 0, 0] = float("inf")
    images[1, 0, 3, 3] = float("nan")
    images[2] = torch.tensor([0.1, -0.5, 0.9])[:, None, None]  # a colour is constant though its channels differ
    images[3] = 0.2
    images[3, 2, 1, 1] = 0.3
    assert find_errors(latents, images) == ["non-finite latents", "non-finite image", "constant image", None, None]


class Straight(Denoiser):
    """Told its strength instead of being guided; predicts the way from a row's picture to noise."""

    native = (4, 4)

    def __init__(self):
        self.network = torch.nn.Linear(1, 1)
        self.calls = []

    def latent_shape(self, height, width):
        return height * width, 3  # tokens

    def timing(self, scheduler, steps, height, width):
        return {"sigmas": [1 - step / steps for step in range(steps)], "mu": height * width / 16}

    def begin(self):
        def predict(sample, timestep, conditions):
            self.calls.append((len(sample), float(timestep)))
            return 0.3 * sample - conditions.arguments["picture"] * conditions.arguments["strength"][:, None, None]

        return predict


def test_the_loop_takes_flow_matching_and_embedded_guidance():
    """Euler's steps of a model of tokens, with a shift that depends on their number, written out."""
    denoiser, rows = Straight(), 3
    own = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    factory = SchedulerFactory("flow-euler", own, 5, denoiser.timing(own, 5, 4, 8))
    generators = [torch.Generator().manual_seed(row) for row in range(rows)]
    noise = initial_latents(denoiser.latent_shape(4, 8), generators)
    picture, strength = torch.randn(rows, 32, 3), torch.tensor([1.0, 2.0, 4.0])
    conditions = GuidedConditions(Conditions({"picture": picture, "strength": strength}), None)
    sigmas = [math.exp(2) / (math.exp(2) + 1 / (1 - step / 5) - 1) for step in range(5)]

    def euler(latents, skipped):
        for now, then in zip(sigmas[skipped:], [*sigmas[skipped + 1 :], 0.0], strict=True):
            latents = latents + (then - now) * (0.3 * latents - picture * strength[:, None, None])
        return latents

    scheduler = factory.new(torch.device("cpu"))
    made = denoise(
        denoiser.begin(), scheduler, start_from_noise(scheduler, noise), conditions, Guidance(5.0), generators
    )
    torch.testing.assert_close(made, euler(noise, 0), rtol=0, atol=1e-5)
    assert [calls for calls, _ in denoiser.calls] == [rows] * 5  # never asked twice
    scheduler, pixels = factory.new(torch.device("cpu")), torch.randn(rows, 32, 3)
    start = start_from_latents(scheduler, pixels, noise, 0.6)
    made = denoise(denoiser.begin(), scheduler, start, conditions, Guidance(5.0), generators)
    expected = euler(sigmas[2] * noise + (1 - sigmas[2]) * pixels, 2)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_flow_matching_and_noise_do_not_mix():
    flow, noise = diffusers.FlowMatchEulerDiscreteScheduler(), diffusers.DDIMScheduler()
    with pytest.raises(ConfigError, match="was trained by flow matching, so it takes default, flow-euler, flow-heun"):
        SchedulerFactory("dpmsolver++", flow, 4)
    with pytest.raises(ConfigError, match="was not trained by flow matching, so it takes default, ddim"):
        SchedulerFactory("flow-euler", noise, 4)
    for name in ("default", "flow-heun"):
        assert len(SchedulerFactory(name, flow, 4).new(torch.device("cpu")).timesteps) >= 4


def test_latents_that_an_autoencoder_shifts():
    torch.manual_seed(0)
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    small = {"block_out_channels": [4, 4], "norm_num_groups": 2, "layers_per_block": 1}
    vae = diffusers.AutoencoderKL(**kinds, **small, scaling_factor=0.5, shift_factor=0.3).eval()
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.inference_mode():
        mode = vae.encode(images).latent_dist.mode()
        latents = encode_pixels(vae, images)
        torch.testing.assert_close(latents, (mode - 0.3) * 0.5)
        torch.testing.assert_close(decode_latents(vae, latents), vae.decode(mode).sample, rtol=0, atol=1e-5)
