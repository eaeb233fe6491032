import logging

import pytest
import torch
from PIL import Image

from augcond.conditioning.base import Conditioning
from augcond.conditioning.drop import dropout_mask
from augcond.conditioning.streams import EMBEDDING_NOISE, INITIAL_NOISE, torch_stream
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import families, load_generator
from augcond.generators.devices import Offloading
from augcond.generators.loading import quiet_progress
from augcond.generators.schedulers import SchedulerFactory
from augcond.testing import TinyShape, save_tiny_stable_unclip

SEEDS = [11, 2**62 + 5, 7, 11_000]


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    from diffusers import StableUnCLIPImg2ImgPipeline

    with quiet_progress():
        pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(tiny_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(seeds, purpose, *shape):
    return torch.cat([torch.randn(1, *shape, generator=torch_stream(seed, purpose)) for seed in seeds])


def record_unet_calls(generator, monkeypatch):
    """Return a list that fills with (number of rows, keyword arguments) of the UNet's calls."""
    calls = []
    forward = generator._denoiser.network.forward

    def recorded(sample, *args, **kwargs):
        calls.append((len(sample), kwargs))
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(generator._denoiser.network, "forward", recorded)
    return calls


def pipeline_images(pipeline, conditioning, seeds, scheduler, steps, **settings):
    """What diffusers' own call makes of the same noise, in [-1, 1]."""
    own = pipeline.scheduler
    try:
        pipeline.scheduler = SchedulerFactory(scheduler, own, steps).new("cpu")
        latents = noise(seeds, INITIAL_NOISE, 4, 8, 8) * pipeline.scheduler.init_noise_sigma
        images = pipeline(
            image_embeds=conditioning.embeddings,
            prompt=list(conditioning.prompts),
            generator=[torch_stream(seed, EMBEDDING_NOISE) for seed in seeds],
            latents=latents,
            num_inference_steps=steps,
            output_type="latent",
            **settings,
        ).images
    finally:
        pipeline.scheduler = own
    with torch.inference_mode():
        return pipeline.vae.decode(images / pipeline.vae.config.scaling_factor).sample


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler", "pndm"])
def test_equals_the_pipelines_own_call(pipeline, tiny_generator, conditioning, rows, scheduler, guidance_scale):
    with_image = rows(conditioning, 0, 1, 2)
    generator = tiny_generator(
        scheduler=scheduler,
        guidance_scale=guidance_scale,
        steps=6,
        own={"noise_level": 40, "negative_prompt": "blurred"},
    )
    images, errors = generator.sample(with_image, SEEDS[:3])
    expected = pipeline_images(
        pipeline,
        with_image,
        SEEDS[:3],
        scheduler,
        6,
        guidance_scale=guidance_scale,
        noise_level=40,
        negative_prompt=["blurred"] * 3,
    )
    assert errors == [None] * 3
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


def test_encodes_as_the_pipeline_does(pipeline, tiny_generator):
    generator = tiny_generator()
    photos = [
        Image.effect_noise(size, 60).convert("RGB").rotate(angle, fillcolor=(9, 200, 30))
        for size, angle in [((64, 48), 20), ((21, 70), 45), ((32, 32), 0)]
    ]
    views = torch.stack([generator.view(photo) for photo in photos])
    assert views.shape == (3, 3, 32, 32)
    assert views.min() >= 0
    assert views.max() <= 1
    for photo, embedding in zip(photos, generator.encode_images(views), strict=True):
        # The first half is the embedding with the noise of level 0 added.
        stream = torch_stream(1, EMBEDDING_NOISE)
        with torch.inference_mode():
            expected = pipeline._encode_image(photo, "cpu", 1, 1, False, torch.tensor([0]), stream, None)
            noised = pipeline.noise_image_embeddings(
                embedding[None], torch.tensor([0]), noise([1], EMBEDDING_NOISE, 16)
            )
        torch.testing.assert_close(noised, expected, rtol=0, atol=1e-5)


def test_encoded_and_generated_tensors_can_be_changed_in_place(tiny_generator, conditioning):
    generator = tiny_generator(steps=1)
    generator.encode_images(torch.rand(2, 3, 32, 32)).mul_(2)
    generator.generate(conditioning, SEEDS).images.mul_(2)
    assert generator.encode_images(torch.zeros(0, 3, 32, 32)).shape == (0, 16)


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "euler-ancestral"])
def test_a_batch_equals_its_rows_alone(tiny_generator, conditioning, rows, scheduler):
    generator = tiny_generator(scheduler=scheduler)
    together, _ = generator.sample(conditioning, SEEDS)
    for row, seed in enumerate(SEEDS):
        alone, _ = generator.sample(rows(conditioning, row), [seed])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=5e-6)


def test_rows_keep_their_own_prompt_embedding_and_seed(tiny_generator, conditioning, rows):
    generator = tiny_generator()
    straight, _ = generator.sample(conditioning, SEEDS)
    order = [2, 0, 3, 1]
    shuffled, _ = generator.sample(rows(conditioning, *order), [SEEDS[row] for row in order])
    torch.testing.assert_close(shuffled, straight[order], rtol=0, atol=5e-6)
    changed = Conditioning(conditioning.embeddings, conditioning.with_image, ("a coat", *conditioning.prompts[1:]))
    images, _ = generator.sample(changed, SEEDS)
    assert [bool((images[row] - straight[row]).abs().max() > 1e-3) for row in range(4)] == [True, False, False, False]


def test_says_that_it_needs_the_cores_that_feed_it(tiny_generator):
    assert tiny_generator().on_cpu


def test_repeated_batches_are_bit_equal(tiny_generator, conditioning):
    generator = tiny_generator(scheduler="dpmsolver++-sde")
    first = generator.generate(conditioning, SEEDS)
    torch.rand(3)
    assert torch.equal(first.images, generator.generate(conditioning, SEEDS).images)
    assert first.images.shape == (4, 16, 16, 3)
    assert first.images.dtype == torch.uint8


def test_generation_leaves_the_global_random_state_alone(tiny_config, conditioning):
    state = torch.get_rng_state()
    generator = load_generator(tiny_config(scheduler="euler-ancestral"))
    generator.generate(conditioning, SEEDS)
    assert torch.equal(state, torch.get_rng_state())


def test_rows_without_an_image_get_the_unconditional_image_input(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(steps=1, guidance_scale=4.0)
    calls = record_unet_calls(generator, monkeypatch)
    generator.generate(conditioning, SEEDS)
    unconditional, conditional = calls[0][1]["class_labels"].chunk(2)
    assert not unconditional.any()
    assert conditional[:3].abs().sum(1).all()
    assert not conditional[3].any()
    # Zeros as an *embedding* are something else: noise is added, and the noise level stays.
    zeros = Conditioning(torch.zeros(4, 16), torch.tensor([True] * 4), conditioning.prompts)
    generator.generate(zeros, SEEDS)
    assert calls[1][1]["class_labels"][7].abs().sum() > 1
    negative = calls[0][1]["encoder_hidden_states"][:4]
    assert torch.equal(negative, negative[:1].expand(4, -1, -1))


def test_text_rows_ignore_their_embedding(tiny_generator, conditioning):
    generator = tiny_generator()
    other = conditioning.embeddings.clone()
    other[3] = 9.0
    same = generator.generate(Conditioning(other, conditioning.with_image, conditioning.prompts), SEEDS)
    assert torch.equal(same.images, generator.generate(conditioning, SEEDS).images)


def test_published_dropout_masks_the_noise_level_too(tiny_generator, conditioning, monkeypatch):
    shares = (0.4, 0.0, 0.7, 0.0)
    masks = torch.stack([dropout_mask(seed, 32, p) for seed, p in zip(SEEDS, shares, strict=True)])
    dropped = torch.where(masks[:, :16], conditioning.embeddings, 0.0)
    vectors = {}
    for published in (False, True):
        generator = tiny_generator(own={"published_dropout": published}, guidance_scale=1.0, steps=1)
        calls = record_unet_calls(generator, monkeypatch)
        # As published: nothing is dropped before the noise. As in a recipe: it is. The mask afterwards evens it out.
        for embeddings in (conditioning.embeddings, dropped):
            rows = Conditioning(embeddings, conditioning.with_image, conditioning.prompts, shares)
            generator.generate(rows, SEEDS)
        vectors[published] = [call["class_labels"] for _, call in calls]
        monkeypatch.undo()
    expected = torch.where(masks, vectors[False][0], 0.0)
    assert torch.equal(vectors[True][0], expected)
    assert torch.equal(vectors[True][1], expected)
    assert (expected[2, 16:] == 0).float().mean() > 0.4
    with pytest.raises(ValueError, match="published_dropout needs the share dropped of each row"):
        tiny_generator(own={"published_dropout": True}, guidance_scale=1.0, steps=1).generate(conditioning, SEEDS)


def test_guidance_interval_equals_a_written_out_loop(pipeline, tiny_generator, conditioning, rows):
    """DDIM written out for v-prediction: guided in steps 2, 3 and 4 of 8 only."""
    row, seed = rows(conditioning, 0), SEEDS[0]
    generator = tiny_generator(scheduler="ddim", steps=8, guidance_scale=5.0, guidance_interval=(0.25, 0.6))
    images, _ = generator.sample(row, [seed])

    with torch.inference_mode():
        text, negative = pipeline.encode_prompt(list(row.prompts), "cpu", 1, True)
        vector = pipeline.noise_image_embeddings(row.embeddings, torch.tensor([0]), noise([seed], EMBEDDING_NOISE, 16))
        latents = noise([seed], INITIAL_NOISE, 4, 8, 8)
        scheduler = SchedulerFactory("ddim", pipeline.scheduler, 8).new("cpu")
        for step, time in enumerate(scheduler.timesteps):
            v = pipeline.unet(latents, time, text, class_labels=vector).sample
            if step in (2, 3, 4):
                away = pipeline.unet(latents, time, negative, class_labels=torch.zeros_like(vector)).sample
                v = away + 5.0 * (v - away)
            alpha = scheduler.alphas_cumprod[time]
            before = time - 1000 // 8
            alpha_before = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
            clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * v
            epsilon = alpha.sqrt() * v + (1 - alpha).sqrt() * latents
            latents = alpha_before.sqrt() * clean + (1 - alpha_before).sqrt() * epsilon
        expected = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "batches"),
    [
        ({"guidance_scale": 3.0}, [8, 8, 8, 8]),
        ({"guidance_scale": 1.0}, [4, 4, 4, 4]),
        ({"guidance_scale": 3.0, "guidance_interval": (0.5, 1.0)}, [4, 4, 8, 8]),
    ],
)
def test_steps_without_guidance_skip_the_unconditional_half(
    tiny_generator, conditioning, monkeypatch, settings, batches
):
    generator = tiny_generator(scheduler="ddim", **settings)
    calls = record_unet_calls(generator, monkeypatch)
    generator.generate(conditioning, SEEDS)
    assert [rows for rows, _ in calls] == batches


@pytest.mark.parametrize(
    "shape",
    [
        TinyShape(autoencoder="tiny", embedding=24, prediction="epsilon"),
        TinyShape(vae_scale=4, latent=4, text=32, encoder_input=48),
    ],
)
def test_pipelines_of_other_dimensions(tmp_path, tiny_config, shape):
    generator = load_generator(tiny_config(model=str(save_tiny_stable_unclip(tmp_path, shape=shape))))
    assert generator.image_size == (16, 16)
    assert generator.embedding_shape == (shape.embedding,)
    views = torch.rand(2, 3, generator.encoder_size, generator.encoder_size)
    batch = Conditioning(generator.encode_images(views), torch.tensor([True, True]), ("a", "b"))
    generated = generator.generate(batch, [1, 2])
    assert generated.errors == (None, None)
    assert generated.images.shape == (2, 16, 16, 3)


def test_other_sizes(tiny_generator, conditioning):
    generator = tiny_generator(size=22, steps=2)
    assert generator.image_size == (22, 22)
    assert generator.generate(conditioning, SEEDS).images.shape == (4, 22, 22, 3)
    with pytest.raises(ConfigError, match=r"generator\.size.*multiples of 2 pixels; 21 is not one, 20 is"):
        tiny_generator(size=21)


def test_large_batches_are_decoded_in_slices(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(steps=1)
    whole, _ = generator.sample(conditioning, SEEDS)
    monkeypatch.setattr("augcond.generators.denoising._DECODED_PIXELS", 3 * 16 * 16)
    sizes = []
    run = generator._vae.decode
    monkeypatch.setattr(generator._vae, "decode", lambda z, **kwargs: sizes.append(len(z)) or run(z, **kwargs))
    sliced, _ = generator.sample(conditioning, SEEDS)
    assert sizes == [3, 1]
    torch.testing.assert_close(sliced, whole, rtol=0, atol=5e-6)


def test_a_row_that_is_not_finite_spoils_no_other(tiny_generator, conditioning):
    generator = tiny_generator()
    broken = conditioning.embeddings.clone()
    broken[1, 3] = float("nan")
    images = generator.generate(Conditioning(broken, conditioning.with_image, conditioning.prompts), SEEDS)
    assert images.errors == (None, "non-finite latents", None, None)
    fine = generator.generate(conditioning, SEEDS)
    assert torch.equal(images.images[[0, 2, 3]], fine.images[[0, 2, 3]])
    assert not images.images[1].any()


def overflow_below_float32(module, method, row, monkeypatch):
    """Let `module.method` return NaN for one row while it is not in float32; count its calls by dtype."""
    calls = []
    run = getattr(module, method)

    def spoiled(sample, *args, **kwargs):
        (result,) = run(sample, *args, **kwargs)
        calls.append((sample.dtype, len(sample)))
        if sample.dtype != torch.float32:
            result = result.clone()
            result[row] = float("nan")
        return (result,)

    monkeypatch.setattr(module, method, spoiled)
    return calls


def test_a_failed_decode_is_repeated_in_float32(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(dtype="bfloat16", steps=2)
    fine = generator.generate(conditioning, SEEDS)
    calls = overflow_below_float32(generator._vae, "decode", 2, monkeypatch)
    generated = generator.generate(conditioning, SEEDS)
    assert generated.errors == (None,) * 4
    assert calls == [(torch.bfloat16, 4), (torch.float32, 1)]
    assert torch.equal(generated.images[[0, 1, 3]], fine.images[[0, 1, 3]])
    assert (generated.images[2].int() - fine.images[2].int()).abs().max() <= 4
    assert generator._vae.dtype == generator._denoiser.network.dtype == torch.bfloat16


def test_failed_latents_are_repeated_in_float32(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(dtype="bfloat16", steps=2, guidance_scale=1.0)
    expected = tiny_generator(dtype="float32", steps=2, guidance_scale=1.0).generate(conditioning, SEEDS)
    calls = overflow_below_float32(generator._denoiser.network, "forward", 1, monkeypatch)
    generated = generator.generate(conditioning, SEEDS)
    assert generated.errors == (None,) * 4
    assert calls == [(torch.bfloat16, 4)] * 2 + [(torch.float32, 1)] * 2
    # bfloat16 weights in float32 arithmetic: near the float32 model, not equal to it.
    assert (generated.images[1].int() - expected.images[1].int()).abs().max() <= 8
    assert generator._denoiser.network.dtype == torch.bfloat16


def test_a_row_that_fails_again_is_recorded(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(dtype="bfloat16", steps=1)
    run = generator._vae.decode
    monkeypatch.setattr(generator._vae, "decode", lambda z, **kwargs: (run(z, **kwargs)[0] * 0,))
    assert generator.generate(conditioning, SEEDS).errors == ("constant image",) * 4


def test_running_out_of_memory_in_the_retry_fails_one_row(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(dtype="bfloat16", steps=1)
    calls = overflow_below_float32(generator._vae, "decode", 0, monkeypatch)
    run = generator._vae.decode

    def too_large(sample, **kwargs):
        if sample.dtype == torch.float32:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return run(sample, **kwargs)

    monkeypatch.setattr(generator._vae, "decode", too_large)
    assert generator.generate(conditioning, SEEDS).errors == ("out of memory in the float32 retry", None, None, None)
    assert len(calls) == 1
    assert generator._vae.dtype == torch.bfloat16


def test_running_out_of_memory_reaches_the_engine(tiny_generator, conditioning, monkeypatch):
    generator = tiny_generator(steps=1)

    def too_large(*args, **kwargs):
        raise RuntimeError("MPS backend out of memory")

    monkeypatch.setattr(generator._denoiser.network, "forward", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(conditioning, SEEDS)


def test_wrong_batches_are_refused(tiny_generator, conditioning):
    generator = tiny_generator(steps=1)
    with pytest.raises(ValueError, match="4 rows of conditioning but 2 seeds"):
        generator.generate(conditioning, [1, 2])
    with pytest.raises(ValueError, match=r"embeddings must be \(4, 16\), not \(4, 15\)"):
        generator.generate(
            Conditioning(conditioning.embeddings[:, 1:], conditioning.with_image, conditioning.prompts), SEEDS
        )
    with pytest.raises(ValueError, match=r"views must be \(B, 3, 32, 32\)"):
        generator.encode_images(torch.zeros(1, 3, 31, 32))
    empty = Conditioning(torch.zeros(0, 16), torch.zeros(0, dtype=torch.bool), ())
    assert generator.generate(empty, []).images.shape == (0, 16, 16, 3)


def test_settings_that_do_not_fit_the_model(tiny_generator):
    with pytest.raises(ConfigError, match=r"generator\.device: 'tpu9'"):
        tiny_generator(device="tpu9")


def test_components_that_do_not_fit_together(tmp_path, tiny_config):
    folder = save_tiny_stable_unclip(tmp_path)
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace('"class_embed_type": "projection"', '"class_embed_type": null'))
    with pytest.raises(GeneratorError, match="takes no image input of 2 x 16 numbers"):
        load_generator(tiny_config(model=str(folder)))


def test_prompts_that_are_too_long_are_said_once(tiny_config, conditioning, caplog):
    generator = load_generator(tiny_config(steps=1))
    long = Conditioning(conditioning.embeddings, conditioning.with_image, (("a " * 40).strip(),) * 4)
    with caplog.at_level(logging.WARNING, logger="augcond"):
        generator.generate(long, SEEDS)
        generator.generate(long, SEEDS)
    messages = [record.getMessage().partition("has ")[2] for record in caplog.records]
    assert messages == ["42 tokens; what follows the first 24 is ignored"]


def test_offloaded_networks_make_the_same_images(tiny_config, tiny_generator, conditioning, monkeypatch):
    """On a CPU, where it is refused else: all that is called comes, and what is computed is the same."""
    monkeypatch.setattr(families, "check_memory", lambda config: None)
    offloaded = load_generator(tiny_config(memory="offload"))
    came = []
    bring = Offloading._bring
    monkeypatch.setattr(Offloading, "_bring", lambda self, network: (came.append(type(network)), bring(self, network)))
    assert torch.equal(
        offloaded.generate(conditioning, SEEDS).images, tiny_generator().generate(conditioning, SEEDS).images
    )
    assert [kind.__name__ for kind in dict.fromkeys(came)] == ["CLIPTextModel", "UNet2DConditionModel", "AutoencoderKL"]
