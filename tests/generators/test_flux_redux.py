"""FLUX.1 dev and schnell with Redux, against diffusers' own pipelines."""

import shutil
from fnmatch import fnmatch

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline, FluxPriorReduxPipeline, FluxTransformer2DModel
from transformers import T5EncoderModel

from augcond.checks.prompts import prompt_warnings
from augcond.conditioning import InitialImage
from augcond.conditioning.base import Conditioning
from augcond.config import GeneratorConfig, RunConfig
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import load_generator
from augcond.generators.denoising import encode_pixels
from augcond.generators.loading import quiet_progress
from augcond.testing import TinyShape, save_tiny_flux, save_tiny_redux
from augcond.testing.networks import tiny_vae
from tests.generators.pipelines import (
    PROMPTS,
    SEEDS,
    assert_bad_weights_are_not_read,
    assert_batch_equals_rows,
    assert_failed_rows_are_made_again,
    assert_rows_keep_their_own,
    decoded,
    load,
    noise,
    photos,
    token_rows,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KINDS = {"dev": 3.5, "schnell": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in KINDS:
        save_tiny_flux(root / kind, kind)
    save_tiny_redux(root / "redux")
    return root


@pytest.fixture(scope="module")
def config(folder):
    def make(kind="dev", *, own=None, **settings):
        defaults = {"name": "flux-redux", "model": str(folder / kind), "scheduler": "default", "size": 16}
        defaults |= {"steps": 4, "device": "cpu", "guidance_scale": KINDS[kind]}
        section = {"redux": {"model": str(folder / "redux")}, "prompt_tokens": 32, **(own or {})}
        return GeneratorConfig(**{**defaults, **settings}, own=section)

    return make


@pytest.fixture(scope="module")
def make(config):
    loaded = {}

    def generator(kind="dev", **settings):
        key = repr((kind, sorted(settings.items())))
        if key not in loaded:
            loaded[key] = load_generator(config(kind, **settings))
        return loaded[key]

    return generator


@pytest.fixture(scope="module")
def prior(folder):
    """Diffusers' own Redux, with the text encoders of FLUX."""
    flux = load(FluxPipeline, folder / "dev")
    own = load(FluxPriorReduxPipeline, folder / "redux")
    names = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    return FluxPriorReduxPipeline(
        own.image_encoder, own.feature_extractor, own.image_embedder, **{name: getattr(flux, name) for name in names}
    )


def unpacked(pipeline, latents):
    return pipeline._unpack_latents(latents, 16, 16, pipeline.vae_scale_factor)


def assert_near(images, expected):
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_pipelines_own_call(folder, make, prior, kind):
    """With an image, and without one, of single rows: Redux adds those of a batch up."""
    generator = make(kind, own={"prompt_tokens": 512})
    pipeline = load(FluxPipeline, folder / kind)
    embeddings = generator.encode_images(torch.stack([generator.view(each) for each in photos()]))
    with_image = torch.tensor([True, False, True, True])
    conditioning = Conditioning(torch.where(with_image[:, None, None], embeddings, 0.0), with_image, PROMPTS)
    images, errors = generator.sample(conditioning, SEEDS)
    assert errors == [None] * 4
    for row in (0, 1, 3):
        told = {"prompt": PROMPTS[row]}
        if with_image[row]:
            tokens, pooled = prior(photos()[row], prompt=PROMPTS[row], return_dict=False)
            assert tokens.shape == (1, 512 + 16, 16)
            told = {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}
        made = pipeline(
            **told,
            latents=pipeline._pack_latents(noise([SEEDS[row]], 4, 8, 8)[0], 1, 4, 8, 8),
            height=16,
            width=16,
            num_inference_steps=4,
            guidance_scale=KINDS[kind],
            output_type="latent",
        ).images
        assert_near(images[row : row + 1], decoded(pipeline, unpacked(pipeline, made)))


def test_encodes_as_redux_does(make, prior):
    generator = make()
    assert (generator.embedding_shape, generator.encoder_size) == ((16, 16), 32)
    views = torch.stack([generator.view(each) for each in photos()])
    with torch.inference_mode():
        expected = prior.encode_image(photos(), "cpu", 1)
    torch.testing.assert_close(generator.encode_images(views), expected, rtol=0, atol=1e-5)


def ours(generator, prior, pictures, prompts):
    embeddings = generator.encode_images(torch.stack([generator.view(each) for each in pictures]))
    conditioning = Conditioning(embeddings, torch.ones(len(pictures), dtype=torch.bool), prompts)
    with torch.inference_mode():
        return generator._conditions(conditioning, SEEDS[: len(pictures)], cached=True).conditional.arguments[
            "encoder_hidden_states"
        ]


def diffusers_own(generator, prior, pictures, prompts):
    return prior(pictures, prompt=list(prompts), return_dict=False)[0]


@pytest.mark.parametrize(
    "told",
    [ours, pytest.param(diffusers_own, marks=pytest.mark.xfail(strict=True, reason="Redux adds a batch up"))],
)
def test_every_row_of_a_batch_is_told_its_own_image(make, prior, told):
    generator = make(own={"prompt_tokens": 512})
    together = told(generator, prior, photos()[:2], PROMPTS[:2])
    for row in range(2):
        alone = prior(photos()[row], prompt=PROMPTS[row], return_dict=False)[0]
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


def test_batches_rows_and_their_own_images(make):
    generator = make()
    conditioning = token_rows(generator, without={3})
    assert_batch_equals_rows(generator, conditioning, SEEDS)
    assert_rows_keep_their_own(generator, conditioning, SEEDS)
    other = Conditioning(conditioning.embeddings, conditioning.with_image, (*PROMPTS[:3], "a hat"))
    changed = (generator.sample(other, SEEDS)[0] - generator.sample(conditioning, SEEDS)[0]).abs().flatten(1).amax(1)
    assert [bool(change > 1e-4) for change in changed] == [False, False, False, True]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_real_guidance_equals_the_image_to_image_pipeline(folder, make, strength):
    """Rows that start from an image beside rows that do not, with and without an embedding."""
    generator = make()
    pipeline = load(FluxImg2ImgPipeline, folder / "dev")
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    initial = (InitialImage(pictures[0], strength), None, InitialImage(pictures[1], strength), None)
    plain = token_rows(generator, without={0, 1, 2})
    conditioning = Conditioning(plain.embeddings, plain.with_image, PROMPTS, initial=initial)
    images = assert_batch_equals_rows(generator, conditioning, SEEDS)
    with torch.inference_mode():
        clean = encode_pixels(pipeline.vae, pictures * 2 - 1)
    made = pipeline(
        prompt=[PROMPTS[0], PROMPTS[2]],
        image=clean,
        strength=strength,
        height=16,
        width=16,
        num_inference_steps=4,
        guidance_scale=KINDS["dev"],
        generator=[noise([SEEDS[row]], 0)[1][0] for row in (0, 2)],
        max_sequence_length=32,
        output_type="latent",
    ).images
    assert_near(images[[0, 2]], decoded(pipeline, unpacked(pipeline, made)))


def test_the_scale_of_guidance_is_told_in_one_call(make, monkeypatch):
    calls = []
    for kind, scale in (("dev", 3.5), ("dev", 7.0), ("schnell", 1.0)):
        generator = make(kind, guidance_scale=scale)
        network = generator._denoiser.network
        forward = network.forward

        def recorded(*, hidden_states, guidance, forward=forward, **others):
            calls.append((len(hidden_states), None if guidance is None else guidance.tolist()))
            return forward(hidden_states=hidden_states, guidance=guidance, **others)

        monkeypatch.setattr(network, "forward", recorded)
        generator.sample(token_rows(generator, 2), SEEDS[:2])
    assert calls == [(2, [3.5] * 2)] * 4 + [(2, [7.0] * 2)] * 4 + [(2, None)] * 4


def test_the_scale_is_a_factor_on_the_images_tokens(folder, make):
    weak, full = make(own={"redux": {"model": str(folder / "redux"), "scale": 0.5}}), make()
    conditioning = token_rows(full, 2)

    def told(generator):
        arguments = generator._conditions(conditioning, SEEDS[:2], cached=True).conditional.arguments
        return arguments["encoder_hidden_states"].split([32, 16], dim=1)

    for one, other, factor in zip(told(weak), told(full), (1.0, 0.5), strict=True):
        torch.testing.assert_close(one, factor * other)


def test_a_tiny_autoencoder_in_the_place_of_the_own(make, config, tmp_path):
    tiny = tiny_vae(TinyShape(autoencoder="tiny"))
    tiny.save_pretrained(tmp_path / "tiny")
    own, other = make(), load_generator(config(vae=str(tmp_path / "tiny")))
    conditioning = token_rows(own, 2)
    images, errors = other.sample(conditioning, SEEDS[:2])
    assert errors == [None] * 2
    with torch.inference_mode():
        latents = own._denoise(conditioning, SEEDS[:2])
        torch.testing.assert_close(images, tiny.decode(latents).sample, rtol=0, atol=1e-5)
    assert other.identity.model == "dev + tiny + redux"


def test_kept_blocks(make):
    whole, kept = make(), make(cache={"interval": 2})
    conditioning = token_rows(kept, without={1})
    images = assert_batch_equals_rows(kept, conditioning, SEEDS)
    assert (images - whole.sample(conditioning, SEEDS)[0]).abs().max() > 1e-3


def test_rows_that_fail_in_half_precision_are_made_once_more(make):
    half = make(dtype="bfloat16")
    assert half._embedder in half._others
    assert_failed_rows_are_made_again(half, make(), token_rows(half, without={1}))


def test_the_identity_names_both_and_prompts_have_a_length(folder, make, tmp_path):
    identity = make().identity
    assert identity.model == "dev + redux"
    assert identity.revision.split(" + ")[0] == make("dev", steps=1).identity.revision.split(" + ")[0]
    moved = shutil.copytree(folder / "redux", tmp_path / "moved")
    generator = make(own={"redux": {"model": str(moved)}, "prompt_tokens": 20})
    assert generator.identity.model == "dev + moved"
    assert generator.identity.revision == identity.revision
    for without, length in (({0, 1}, 20), ((), 20 + 16)):
        told = generator._conditions(token_rows(generator, 2, without), SEEDS[:2], cached=True).conditional.arguments
        assert told["encoder_hidden_states"].shape == (2, length, 16)


def test_prompts_are_as_long_as_t5_reads(folder, config, tmp_path):
    run = RunConfig(data={"path": "."}, generator=config(), prompt="a photo of a {class_name}", run=tmp_path)
    (warning,) = prompt_warnings(run, ["a", "b"], [("boot",), ("very long boot of leather",)])
    assert "1 of 2 prompts are longer than the 32 tokens that the text encoder reads" in warning


REFUSED = {
    "size": ({"size": 18}, ConfigError, r"multiples of 4 pixels; 18 is not one, 16 is"),
    "scheduler": ({"scheduler": "dpmsolver++"}, ConfigError, "was trained by flow matching, so it takes default, flow"),
    "heun": ({"scheduler": "flow-heun"}, ConfigError, "cannot be told this model's own time steps"),
    "interval": ({"guidance_interval": (0.2, 0.8)}, ConfigError, r"generator\.guidance_interval: FLUX\.1 is told"),
    "schnell": ({"kind": "schnell", "guidance_scale": 3.0}, ConfigError, r"so 3 would change nothing; set it to 1"),
    "branch": ({"cache": {"branch": 2}}, ConfigError, r"generator\.cache\.branch: this transformer has blocks 0 to 1"),
    "lora": ({"lora": ({"model": "a/b"},)}, ConfigError, r"generator\.lora: flux-redux takes no LoRA"),
    "no redux": (
        {"own": {"redux": {"model": "./nothing"}}},
        ConfigError,
        r"redux\.model: no folder ./nothing",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_made_is_refused_before_anything_large_is_read(config, monkeypatch, what):
    settings, error, message = REFUSED[what]
    assert_bad_weights_are_not_read(config(**settings), monkeypatch, error, message)


def test_a_redux_or_a_part_that_does_not_fit(folder, config, monkeypatch, tmp_path):
    wide = save_tiny_redux(tmp_path / "wide", shape=TinyShape(text=24))
    section = {"redux": {"model": str(wide)}}
    message = r"generator\.own\.redux\.model: FLUX's transformer takes tokens of 16 features, but is given 24"
    assert_bad_weights_are_not_read(config(own=section), monkeypatch, GeneratorError, message)
    section = {"redux": {"model": str(folder / "dev")}}
    message = r"redux\.model: .*/dev is a FluxPipeline; this generator needs a FluxPriorReduxPipeline"
    assert_bad_weights_are_not_read(config(own=section), monkeypatch, GeneratorError, message)
    broken = shutil.copytree(folder / "dev", tmp_path / "broken")
    shutil.rmtree(broken / "text_encoder_2")
    message = r"generator\.model: .*/broken lacks the folder text_encoder_2, which its model_index\.json names"
    assert_bad_weights_are_not_read(config(model=str(broken)), monkeypatch, GeneratorError, message)
    (broken / "vae" / "config.json").write_text("{")
    shutil.copytree(folder / "dev" / "text_encoder_2", broken / "text_encoder_2")
    message = r"the config of .*/broken/vae is of no AutoencoderKL"
    assert_bad_weights_are_not_read(config(model=str(broken)), monkeypatch, GeneratorError, message)
    shutil.rmtree(wide / "feature_extractor")
    message = r"generator\.own\.redux\.model: .*/wide lacks the folder feature_extractor"
    assert_bad_weights_are_not_read(config(own={"redux": {"model": str(wide)}}), monkeypatch, GeneratorError, message)


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """The hub's true layout: weights in shards, and beside the folders the same in a single file; returns the cache."""
    origin, cache = tmp_path / "origin", tmp_path / "cache"
    dev = shutil.copytree(folder / "dev", origin / "someone" / "dev")
    redux = shutil.copytree(folder / "redux", origin / "someone" / "redux")
    for kind, name in ((FluxTransformer2DModel, "transformer"), (T5EncoderModel, "text_encoder_2")):
        with quiet_progress():
            network = kind.from_pretrained(dev / name)
            for path in (dev / name).glob("*.safetensors"):
                path.unlink()
            network.save_pretrained(dev / name, max_shard_size="20KB")
        assert len(list((dev / name).glob("*-of-*.safetensors"))) > 1
    for single in (dev / "flux1-dev.safetensors", redux / "flux1-redux-dev.safetensors", dev / "ae.safetensors"):
        single.write_bytes(b"not to be fetched")

    def download(repository, *, revision, allow_patterns, ignore_patterns):
        snapshot = cache / repository / COMMIT
        for path in (origin / repository).rglob("*"):
            name = path.relative_to(origin / repository).as_posix()
            if path.is_file() and any(fnmatch(name, wanted) for wanted in allow_patterns):
                assert not any(fnmatch(name, left_out) for left_out in ignore_patterns)
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return cache


def test_from_the_hub_configs_come_first_and_single_files_never(config, make, hub):
    wanted = {"model": "someone/dev", "own": {"redux": {"model": "someone/redux"}}}
    with pytest.raises(ConfigError, match="18 is not one"):
        load_generator(config(**wanted, size=18))
    assert {path.suffix for path in hub.rglob("*") if path.is_file()} == {".json"}
    generator = load_generator(config(**wanted))
    assert generator.identity.model == "someone/dev + someone/redux"
    assert generator.identity.revision == f"{COMMIT} + {COMMIT}"
    assert not list(hub.glob("*/*/*/*.safetensors"))
    conditioning = token_rows(generator, 2)
    assert torch.equal(generator.sample(conditioning, SEEDS[:2])[0], make().sample(conditioning, SEEDS[:2])[0])
