from types import SimpleNamespace

import pytest
import torch

from augcond.conditioning import InitialImage
from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.generators.denoising import encode_pixels
from augcond.generators.schedulers import SchedulerFactory
from augcond.generators.stable_diffusion import check_text_to_image
from augcond.testing import TinyShape, save_tiny_stable_diffusion
from tests.generators.pipelines import SEEDS, assert_batch_equals_rows, decoded, latents_of, load, noise

PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("checkpoints") / "tiny-sd")


@pytest.fixture(scope="module")
def make(folder):
    loaded = {}

    def generator(**settings):
        key = repr(sorted(settings.items()))
        if key not in loaded:
            defaults = {"name": "stable-diffusion", "model": str(folder), "steps": 4, "device": "cpu"}
            loaded[key] = load_generator(GeneratorConfig(**{**defaults, **settings}))
        return loaded[key]

    return generator


def pictures(count, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def rows(initial=(), prompts=PROMPTS):
    count = len(prompts)
    return Conditioning(torch.zeros(count, 0), torch.zeros(count, dtype=torch.bool), prompts, initial=tuple(initial))


def from_images(strength=0.5, count=4):
    return rows([InitialImage(picture, strength) for picture in pictures(count)], PROMPTS[:count])


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "pndm"])
def test_equals_the_text_to_image_pipeline(folder, make, scheduler):
    from diffusers import StableDiffusionPipeline

    pipeline = load(StableDiffusionPipeline, folder)
    images, errors = make(scheduler=scheduler, guidance_scale=3.0, own={"negative_prompt": "blurred"}).sample(
        rows(), SEEDS
    )
    latents = latents_of(
        pipeline, scheduler, 4, SEEDS, prompt=list(PROMPTS), negative_prompt=["blurred"] * 4, guidance_scale=3.0
    )
    assert errors == [None] * 4
    torch.testing.assert_close(images, decoded(pipeline, latents), rtol=0, atol=1e-4)


@pytest.mark.parametrize("strength", [0.4, 1.0])
@pytest.mark.parametrize(
    "scheduler", ["ddim", "dpmsolver++", "euler", "euler-ancestral", "heun", "pndm", "lms", "unipc"]
)
def test_real_guidance_equals_the_image_to_image_pipeline(folder, make, scheduler, strength):
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = load(StableDiffusionImg2ImgPipeline, folder)
    images, errors = make(scheduler=scheduler, steps=5, guidance_scale=3.0).sample(from_images(strength), SEEDS)
    with torch.inference_mode():
        clean = pipeline.vae.encode(pictures(4) * 2 - 1).latent_dist.mode() * pipeline.vae.config.scaling_factor
    pipeline.scheduler = SchedulerFactory(scheduler, pipeline.scheduler, 5).new("cpu")
    latents = pipeline(
        prompt=list(PROMPTS),
        image=clean,
        strength=strength,
        num_inference_steps=5,
        guidance_scale=3.0,
        generator=[noise([seed], 0)[1][0] for seed in SEEDS],
        output_type="latent",
    ).images
    assert errors == [None] * 4
    torch.testing.assert_close(images, decoded(pipeline, latents), rtol=0, atol=1e-4)


def test_images_are_encoded_as_the_autoencoders_most_likely_latents(make):
    vae = make()._vae
    images = pictures(5) * 2 - 1
    with torch.inference_mode():
        expected = vae.encode(images).latent_dist.mode() * vae.config.scaling_factor
        torch.testing.assert_close(encode_pixels(vae, images), expected)


def test_a_weak_start_stays_near_the_image_and_a_strong_one_leaves_it(make):
    generator = make(scheduler="ddim", steps=50, guidance_scale=1.0)
    near, far = (generator.sample(from_images(strength), SEEDS)[0] for strength in (0.02, 1.0))
    with torch.inference_mode():
        same = generator._decode(encode_pixels(generator._vae, pictures(4) * 2 - 1))
    assert (near - same).abs().mean() < 0.5 * (far - same).abs().mean()


def test_rows_with_and_without_an_initial_image_share_a_batch(make):
    generator = make(scheduler="euler-ancestral", steps=6)
    first, second, third, _ = pictures(4)
    initial = [InitialImage(first, 0.5), None, InitialImage(second, 0.9), InitialImage(third, 0.5)]
    mixed = rows(initial)
    together = assert_batch_equals_rows(generator, mixed, SEEDS)
    order = [3, 1, 0, 2]
    shuffled, _ = generator.sample(mixed.take(order), [SEEDS[row] for row in order])
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-5)
    plain, _ = generator.sample(rows(), SEEDS)
    assert [bool((plain[row] - together[row]).abs().max() > 1e-3) for row in range(4)] == [True, False, True, True]


def test_steps_before_the_start_are_not_done_and_do_not_count_for_the_interval(make, monkeypatch):
    generator = make(scheduler="ddim", steps=8, guidance_scale=3.0, guidance_interval=(0.0, 0.75))
    calls = []
    forward = generator._denoiser.network.forward
    monkeypatch.setattr(
        generator._denoiser.network,
        "forward",
        lambda sample, *args, **kw: calls.append(len(sample)) or forward(sample, *args, **kw),
    )
    generator.generate(from_images(0.5), SEEDS)
    assert calls == [8, 8, 4, 4]  # steps 4 to 7 of 8: the first two lie in the guided share


def test_autoencoders_without_a_distribution(tmp_path):
    folder = save_tiny_stable_diffusion(tmp_path, shape=TinyShape(autoencoder="tiny", prediction="epsilon"))
    config = GeneratorConfig(name="stable-diffusion", model=str(folder), steps=2, device="cpu")
    generated = load_generator(config).generate(from_images(), SEEDS)
    assert generated.errors == (None,) * 4
    assert generated.images.shape == (4, 16, 16, 3)


def test_a_row_from_an_image_is_retried_from_its_image(make, monkeypatch):
    generator = make(dtype="bfloat16", steps=2, guidance_scale=1.0)
    expected = make(dtype="float32", steps=2, guidance_scale=1.0).generate(from_images(), SEEDS)
    forward = generator._denoiser.network.forward

    def spoiled(sample, *args, **kwargs):
        (result,) = forward(sample, *args, **kwargs)
        return (result * float("nan"),) if sample.dtype != torch.float32 else (result,)

    monkeypatch.setattr(generator._denoiser.network, "forward", spoiled)
    generated = generator.generate(from_images(), SEEDS)
    assert generated.errors == (None,) * 4
    assert (generated.images.int() - expected.images.int()).abs().max() <= 8


def test_stable_unclip_starts_from_images_too(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(scheduler="ddim", guidance_scale=3.0)
    labels = []
    forward = generator._denoiser.network.forward

    def recorded(sample, *args, **kwargs):
        labels.append(kwargs["class_labels"])
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(generator._denoiser.network, "forward", recorded)
    initial = [None, *(InitialImage(picture, 0.5) for picture in pictures(2)), None]
    with_image = torch.tensor([True, False, False, False])
    mixed = Conditioning(
        conditioning.embeddings * with_image[:, None], with_image, conditioning.prompts, initial=tuple(initial)
    )
    together = assert_batch_equals_rows(generator, mixed, SEEDS)
    # The four steps of rows 0 and 3, then the two that are left for rows 1 and 2.
    assert [len(label) for label in labels[:6]] == [4] * 4 + [4] * 2
    assert not labels[4].any()
    monkeypatch.undo()
    plain, _ = generator.sample(Conditioning(mixed.embeddings, with_image, mixed.prompts), SEEDS)
    assert [bool((plain[row] - together[row]).abs().max() > 1e-3) for row in range(4)] == [False, True, True, False]


def test_image_embeddings_and_images_of_other_sizes_are_refused(make):
    generator = make(steps=1)
    assert generator.embedding_shape == (0,)
    with pytest.raises(ValueError, match="takes no image embedding"):
        generator.generate(Conditioning(torch.zeros(1, 0), torch.tensor([True]), ("a",)), [1])
    with pytest.raises(ConfigError, match="stable-diffusion has no image encoder"):
        generator.encode_images(torch.zeros(1, 3, 32, 32))
    wrong = rows([InitialImage(pictures(1, 18)[0], 0.5)], ("a",))
    with pytest.raises(ValueError, match=r"initial images must be \(3, 16, 16\), not \(3, 18, 18\)"):
        generator.generate(wrong, [1])


def test_other_checkpoints_are_refused(tiny_folder):
    with pytest.raises(GeneratorError, match="this generator needs a StableDiffusionPipeline"):
        load_generator(GeneratorConfig(name="stable-diffusion", model=str(tiny_folder)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 9}, "not of a text-to-image model: it takes 9 channels and gives 4"),
        ({"num_class_embeds": 1000}, "num_class_embeds 1000"),
        ({"time_cond_proj_dim": 256}, "distilled"),
    ],
)
def test_models_that_want_more_than_a_prompt_are_refused(settings, message):
    config = {"in_channels": 4, "out_channels": 4, "class_embed_type": None, "num_class_embeds": None}
    unet = SimpleNamespace(config=SimpleNamespace(**{**config, "time_cond_proj_dim": None, **settings}))
    with pytest.raises(GeneratorError, match=message):
        check_text_to_image(SimpleNamespace(unet=unet))
