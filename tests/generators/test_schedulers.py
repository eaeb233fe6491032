import re

import diffusers
import pytest
import torch

from augcond.assets import WORLD
from augcond.errors import ConfigError
from augcond.generators.schedulers import SchedulerFactory, learns_variance

NAMES = [
    *("ddim", "ddpm", "deis", "dpmsolver++", "dpmsolver++-sde", "dpmsolver++-single", "euler", "euler-ancestral"),
    *("heun", "kdpm2", "kdpm2-ancestral", "lcm", "lms", "pndm", "tcd", "unipc"),
]
# Those that draw noise while they denoise.
STOCHASTIC = ["ddpm", "dpmsolver++-sde", "euler-ancestral", "kdpm2-ancestral", "lcm", "tcd"]


@pytest.fixture(scope="module")
def own():
    """The scheduler config that Stable Diffusion 2.1 unCLIP comes with, in short."""
    return diffusers.PNDMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        skip_prk_steps=True,
        steps_offset=1,
    )


@pytest.mark.parametrize(
    "scheduler",
    [
        "default",
        *NAMES,
        "dpmsolver++-karras",
        "euler-karras",
        "SASolverScheduler",
        "DDPMParallelScheduler",
    ],
)
def test_a_batch_equals_its_rows_alone(tiny_generator, conditioning, rows, scheduler):
    generator = tiny_generator(scheduler=scheduler, steps=3)
    together, errors = generator.sample(rows(conditioning, 0, 1), [5, 6])
    assert errors == [None, None]
    for row, seed in enumerate([5, 6]):
        alone, _ = generator.sample(rows(conditioning, row), [seed])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_drawn_on_the_way_is_the_rows_own(own, name):
    scheduler = SchedulerFactory(name, own, 4).new(torch.device("cpu"))
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 1)]
    latents, prediction = torch.ones(3, 4, 4, 4), torch.zeros(3, 4, 4, 4)
    for time in scheduler.timesteps:
        scheduler.scale_model_input(latents, time)
        latents = scheduler.step(prediction, time, latents, generator=generators, return_dict=False)[0]
    assert torch.equal(latents[0], latents[2])
    assert not torch.equal(latents[0], latents[1])


def test_the_models_noise_schedule_is_taken_over(own):
    scheduler = SchedulerFactory("dpmsolver++", own, 5).new(torch.device("cpu"))
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert scheduler.config.algorithm_type == "dpmsolver++"
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.beta_end == 0.012
    assert len(scheduler.timesteps) == 5


@pytest.mark.parametrize("name", ["ddim", "ddpm", "lcm", "tcd"])
def test_latents_are_not_clipped_as_if_they_were_pixels(own, name):
    assert SchedulerFactory(name, own, 4).new("cpu").config.clip_sample is False


def test_a_learned_variance_is_for_ddpm_alone():
    own = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    assert learns_variance(SchedulerFactory("default", own, 3).new("cpu"))
    assert learns_variance(SchedulerFactory("ddpm", own, 3).new("cpu"))
    for name in ("ddim", "dpmsolver++", "dpmsolver++-single", "euler", "unipc"):
        assert not learns_variance(SchedulerFactory(name, own, 3).new("cpu"))
    # It would take the variance to follow three channels.
    assert SchedulerFactory("dpmsolver++", own, 3).new("cpu").config.variance_type is None


def test_each_scheduler_is_fresh(own):
    factory = SchedulerFactory("pndm", own, 4)
    used = factory.new("cpu")
    for time in used.timesteps:
        used.step(torch.ones(1, 1, 2, 2), time, torch.ones(1, 1, 2, 2))
    assert used.counter == 5
    assert factory.new("cpu").counter == 0


def test_the_probe_leaves_the_global_random_state_alone(own):
    state = torch.get_rng_state()
    SchedulerFactory("ddpm", own, 3)
    assert torch.equal(state, torch.get_rng_state())


class UnseededScheduler(diffusers.EulerAncestralDiscreteScheduler):
    """Adds noise that no caller can seed."""

    def step(self, model_output, timestep, sample, return_dict=True):
        return super().step(model_output, timestep, sample, return_dict=return_dict)


def test_noise_that_cannot_be_seeded_per_row_is_refused(own, monkeypatch):
    monkeypatch.setattr(diffusers, "UnseededScheduler", UnseededScheduler, raising=False)
    with pytest.raises(ConfigError, match="'UnseededScheduler' draws noise that cannot be seeded per image"):
        SchedulerFactory("UnseededScheduler", own, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dpmsolver+", r"generator\.scheduler: no scheduler 'dpmsolver\+'; did you mean 'dpmsolver\+\+'\?.*ddim"),
        ("UNet2DConditionModel", "no scheduler 'UNet2DConditionModel'"),
        ("SchedulerMixin", "SchedulerMixin does not denoise"),
        ("FlowMatchEulerDiscreteScheduler", "this model was not trained by flow matching, so it takes default, ddim"),
        ("DPMSolverMultistepInverseScheduler", "does not denoise models of this kind"),
        ("ddim-karras", "DDIMScheduler has no -karras variant"),
        ("DPMSolverSDEScheduler", "cannot be used with this model|no scheduler"),
        ("CogVideoXDPMScheduler", "cannot denoise in 3 steps"),
    ],
)
def test_schedulers_that_cannot_be_used(own, name, message):
    with pytest.raises(ConfigError, match=message):
        SchedulerFactory(name, own, 3)


def test_all_short_names_are_known(own):
    with pytest.raises(ConfigError, match=re.escape(f"known: default, {', '.join(NAMES)}, most of them")):
        SchedulerFactory("nonsense", own, 3)


def test_too_many_steps(own):
    with pytest.raises(ConfigError, match="'ddim' cannot denoise in 2000 steps"):
        SchedulerFactory("ddim", own, 2000)


@pytest.mark.parametrize(("name", "steps"), [("kdpm2-karras", 5), ("kdpm2-ancestral", 5), ("euler-ancestral", 3)])
def test_numbers_that_are_not_finite_are_refused_at_load(name, steps):
    # The noise schedule of the built-in model, whose last signal-to-noise ratio is zero.
    own = diffusers.DPMSolverMultistepScheduler.from_pretrained(WORLD / "checkpoint" / "scheduler")
    with pytest.raises(ConfigError, match=rf"{name}' gives NaN or infinite numbers in {steps} steps .* change"):
        SchedulerFactory(name, own, steps)
    SchedulerFactory(name.partition("-")[0], own, steps)
