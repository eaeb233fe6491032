"""What transformers of flow matching have in common: blocks that are left out, packed tokens, time that is shifted."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline, retrieve_timesteps

from augcond.config.generation import CacheConfig
from augcond.errors import ConfigError
from augcond.generators.denoising import Conditions
from augcond.generators.schedulers import SchedulerFactory
from augcond.generators.transformer import TransformerDenoiser, even_sigmas, latents_of, shift_for, tokens_of

SMALL = {"num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 6}


class Denoiser(TransformerDenoiser):
    """Tokens as they are; everything else is left to the conditions."""

    def latent_shape(self, height, width):
        return height * width, 4

    def call(self, network, sample, timestep, conditions):
        return network(sample, timestep=timestep.expand(len(sample)), **conditions.arguments, return_dict=False)[0]


def flux():
    ids = {"img_ids": torch.zeros(5, 3), "txt_ids": torch.zeros(7, 3)}
    network = diffusers.FluxTransformer2DModel(
        in_channels=4, num_single_layers=2, pooled_projection_dim=6, axes_dims_rope=(2, 2, 4), **SMALL
    )
    return network, {**ids, "pooled_projections": torch.randn(4, 6)}, (5, 4)


def flux2():
    ids = {"img_ids": torch.zeros(5, 4), "txt_ids": torch.zeros(7, 4)}
    network = diffusers.Flux2Transformer2DModel(
        in_channels=4, num_single_layers=2, axes_dims_rope=(2, 2, 2, 2), timestep_guidance_channels=8, **SMALL
    )
    return network, {**ids, "guidance": torch.ones(4)}, (5, 4)


def sd3():
    network = diffusers.SD3Transformer2DModel(
        sample_size=4, in_channels=4, out_channels=4, caption_projection_dim=16, pooled_projection_dim=6, **SMALL
    )
    return network, {"pooled_projections": torch.randn(4, 6)}, (4, 4, 4)


class Reference:
    """Computes every block at every step, and puts in what was kept behind the last; counts whole steps."""

    def __init__(self, network, interval, branch):
        self.interval, self.kept, self.uses, self.whole = interval, None, 0, 0
        network.transformer_blocks[branch].register_forward_hook(self.enter)
        network.norm_out.register_forward_pre_hook(self.leave)

    def enter(self, block, inputs, outputs):
        self.entered = outputs[1]

    def leave(self, norm, inputs):
        hidden, *others = inputs
        if self.kept is None or self.uses == self.interval or len(self.kept) < len(hidden):
            self.kept, self.uses = hidden - self.entered, 0
            self.whole += 1
        self.uses += 1
        return self.entered + self.kept[-len(hidden) :], *others


@pytest.mark.parametrize("branch", [0, 1, 2])
@pytest.mark.parametrize("build", [flux, flux2, sd3])
@torch.inference_mode()
def test_kept_features_equal_those_put_back_into_whole_steps(build, branch):
    torch.manual_seed(0)
    network, others, shape = build()
    network.eval()
    denoiser = Denoiser(network, (1, 1), CacheConfig(interval=3, branch=branch))
    conditions = Conditions({"encoder_hidden_states": torch.randn(4, 7, 6), **others})
    half = Conditions({name: value[2:] if len(value) == 4 else value for name, value in conditions.arguments.items()})
    # As under guidance in an interval: four rows are two of each kind, and two are the conditional ones.
    steps = [(torch.randn(rows, *shape), torch.tensor(time)) for time, rows in enumerate((2, 2, 4, 4, 2, 2, 4))]

    def predictions(predict):
        return [predict(sample, time, conditions if len(sample) == 4 else half) for sample, time in steps]

    whole = []
    counted = network.transformer_blocks[-1].register_forward_hook(lambda *_: whole.append(1))
    made = predictions(denoiser.begin())
    counted.remove()
    uncached = predictions(Denoiser(network, (1, 1)).begin())
    reference = Reference(network, 3, branch)
    expected = predictions(Denoiser(network, (1, 1)).begin())
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert torch.equal(made[0], uncached[0])
    if branch < 2 or build is not sd3:  # of which it is the last
        assert not torch.allclose(made[1], uncached[1], rtol=0, atol=1e-4)
        assert len(whole) == reference.whole or branch == 2
    assert reference.whole == 4


def test_a_block_that_is_not_there():
    with pytest.raises(ConfigError, match=r"generator\.cache\.branch: this transformer has blocks 0 to 2, not 3"):
        Denoiser(flux()[0], (1, 1), CacheConfig(branch=3))


def test_tokens_are_those_of_flux():
    latents = torch.randn(2, 3, 4, 6)
    packed = FluxPipeline._pack_latents(latents, 2, 3, 4, 6)
    halves = torch.nn.functional.pixel_unshuffle(latents, 2)
    assert torch.equal(tokens_of(halves), packed)
    assert torch.equal(latents_of(packed, 2, 3), halves)


def test_time_is_shifted_as_by_fluxs_pipeline():
    own = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.4, max_shift=1.2, shift=3.0)
    timing = {"sigmas": even_sigmas(5), "mu": shift_for(own, 900)}
    expected = diffusers.FlowMatchEulerDiscreteScheduler.from_config(own.config)
    mu = 0.4 + (900 - 256) * (1.2 - 0.4) / (4096 - 256)
    retrieve_timesteps(expected, 5, "cpu", sigmas=np.linspace(1.0, 1 / 5, 5), mu=mu)
    for name in ("default", "flow-euler"):
        made = SchedulerFactory(name, own, 5, timing).new(torch.device("cpu"))
        torch.testing.assert_close(made.timesteps, expected.timesteps)
    with pytest.raises(ConfigError, match="'flow-heun' cannot be told this model's own time steps"):
        SchedulerFactory("flow-heun", own, 5, timing)
