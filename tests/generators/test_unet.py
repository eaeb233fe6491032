"""Deep features that are kept: against a slow reference, in every family, and row by row."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators import load_generator
from augcond.testing import (
    save_tiny_ip_adapter,
    save_tiny_kandinsky,
    save_tiny_kandinsky_prior,
    save_tiny_stable_diffusion_xl,
)

SEEDS = [11, 2**62 + 5, 7, 11_000]


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kandinsky")
    prior = save_tiny_kandinsky_prior(folder / "prior")
    decoder = save_tiny_kandinsky(folder / "decoder")
    return {"name": "kandinsky-2.2", "model": str(decoder), "own": {"prior": {"model": str(prior)}}}


@pytest.fixture(scope="module")
def ip_adapter_xl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xl")
    model = save_tiny_stable_diffusion_xl(folder / "model")
    adapter = save_tiny_ip_adapter(folder / "adapter", model)
    return {"name": "ip-adapter-xl", "model": str(model), "own": {"adapter": {"model": str(adapter)}}}


class Reference:
    """Computes everything at every step, and then puts the kept features in their place; counts whole steps.

    Knows nothing of how the generator cuts its UNet: a hook on the up layer that takes skip connection `branch`
    replaces what it gets from below.
    """

    def __init__(self, unet, interval, branch):
        ups = [resnet for block in unet.up_blocks for resnet in block.resnets]
        self.layer = ups[-1 - branch]
        skips = [unet.config.block_out_channels[0]]
        for block in unet.down_blocks:
            skips += [resnet.out_channels for resnet in block.resnets]
            skips += [skips[-1]] * (block.downsamplers is not None)
        self.skip = skips[branch]
        self.interval, self.unet = interval, unet
        self.kept, self.uses, self.whole = None, 0, 0

    def hook(self, layer, args):
        below = args[0][:, : -self.skip]
        if self.kept is None or self.uses == self.interval or len(self.kept) < len(below):
            self.kept, self.uses = below, 0
            self.whole += 1
        self.uses += 1
        return torch.cat([self.kept[-len(below) :], args[0][:, -self.skip :]], dim=1), *args[1:]

    def sample(self, generator, conditioning, seeds):
        handle = self.layer.register_forward_pre_hook(self.hook)
        try:
            return generator.sample(conditioning, seeds)[0]
        finally:
            handle.remove()


def assert_equals_the_reference(config, conditioning, seeds):
    cache = config.cache
    plain, cached = load_generator(config.model_copy(update={"cache": None})), load_generator(config)
    reference = Reference(plain._denoiser.network, cache.interval, cache.branch)
    expected = reference.sample(plain, conditioning, seeds)
    whole = []
    count = cached._denoiser.network.mid_block.register_forward_pre_hook(lambda *_: whole.append(1))
    images, errors = cached.sample(conditioning, seeds)
    count.remove()
    assert errors == [None] * len(seeds)
    tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(images, expected, rtol=0, atol=tolerance)
    assert len(whole) == reference.whole
    uncached, _ = plain.sample(conditioning, seeds)
    assert (images - uncached).abs().max() > 100 * tolerance  # else nothing was kept
    return cached


CACHED = [
    {"scheduler": "ddim"},
    {"scheduler": "dpmsolver++", "guidance_interval": (0.25, 0.7), "cache": {"interval": 3, "branch": 1}},
    {"scheduler": "pndm", "guidance_interval": (0.0, 0.5), "cache": {"interval": 2, "branch": 2}},
    {"scheduler": "heun", "guidance_scale": 1.0, "size": 22},
    {"scheduler": "euler-ancestral", "guidance_interval": (0.5, 1.0), "cache": {"interval": 100, "branch": 3}},
]


@pytest.mark.parametrize("sampling", CACHED, ids=lambda sampling: sampling["scheduler"])
def test_kept_features_equal_those_put_back_into_whole_steps(tiny_config, conditioning, sampling):
    config = tiny_config(**{"steps": 6, "cache": {"interval": 3}, **sampling})
    assert_equals_the_reference(config, conditioning, SEEDS)


@pytest.mark.parametrize("family", ["kandinsky", "ip_adapter_xl"])
def test_other_unets_keep_theirs(request, conditioning, family):
    values = {**request.getfixturevalue(family), "steps": 3, "device": "cpu", "cache": {"interval": 2, "branch": 1}}
    values |= {"scheduler": "ddim", "guidance_scale": 2.0}
    config = GeneratorConfig.model_validate(values)
    cached = assert_equals_the_reference(config, conditioning, SEEDS)
    together, _ = cached.sample(conditioning, SEEDS)
    alone, _ = cached.sample(conditioning.take([2]), SEEDS[2:3])
    torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5 * max(1.0, float(together.abs().max())))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), rows=st.integers(1, 3), cache=st.sampled_from([(2, 1), (3, 0)]))
def test_a_row_does_not_depend_on_its_batch(tiny_generator, conditioning, order, rows, cache):
    kept = {"interval": cache[0], "branch": cache[1]}
    generator = tiny_generator(cache=kept, guidance_interval=(0.2, 0.6), scheduler="euler-ancestral", steps=5)
    everything, _ = generator.sample(conditioning, SEEDS)
    chosen = order[:rows]
    some, _ = generator.sample(conditioning.take(chosen), [SEEDS[row] for row in chosen])
    torch.testing.assert_close(some, everything[chosen], rtol=0, atol=5e-6)


def test_interval_1_is_no_cache(tiny_generator, tiny_config, conditioning):
    assert tiny_config(cache={"interval": 1, "branch": 2}) == tiny_config()
    # And whole steps have the bits of a UNet that was never taken apart.
    one = {"steps": 1, "scheduler": "ddim"}
    for branch in (0, 3):
        cached, _ = tiny_generator(**one, cache={"interval": 2, "branch": branch}).sample(conditioning, SEEDS)
        assert torch.equal(cached, tiny_generator(**one).sample(conditioning, SEEDS)[0])


def test_rows_that_start_from_images_keep_features_of_their_own(tiny_generator, conditioning):
    from augcond.conditioning.base import InitialImage

    generator = tiny_generator(steps=6, scheduler="ddim", cache={"interval": 2})
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3))
    initial = (None, InitialImage(pixels, 0.5), None, InitialImage(1 - pixels, 0.7))
    mixed = Conditioning(conditioning.embeddings, conditioning.with_image, conditioning.prompts, (), initial)
    together, _ = generator.sample(mixed, SEEDS)
    for row, seed in enumerate(SEEDS):
        alone, _ = generator.sample(mixed.take([row]), [seed])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=5e-6)


def test_a_branch_that_is_not_there(tiny_generator):
    with pytest.raises(ConfigError, match=r"generator\.cache\.branch: this UNet has skip connections 0 to 3, not 4"):
        tiny_generator(cache={"branch": 4})
