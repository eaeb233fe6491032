"""FLUX.2 klein: every row with references of its own, as diffusers' pipeline has them for a single row."""

import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from augcond.conditioning import RECIPES, combine, prepare
from augcond.conditioning.base import Conditioning, InitialImage
from augcond.config import ConditioningConfig, GeneratorConfig, PlanConfig
from augcond.datasets import DecodeSettings
from augcond.engine import BatchSize, Materials, generate_rows
from augcond.errors import ConfigError, GeneratorError
from augcond.generators import check_recipes, load_generator, recipes_for
from augcond.generators import flux2_klein as module
from augcond.planning import make_plan
from augcond.store.images import ImageFormat, decode_stored
from augcond.testing import save_tiny_flux2_klein
from tests.conditioning.test_recipes import REFERENCES, Reference
from tests.generators.pipelines import (
    SEEDS,
    assert_bad_weights_are_not_read,
    assert_batch_equals_rows,
    assert_failed_rows_are_made_again,
    assert_rows_keep_their_own,
    load,
    noise,
)
from tests.toy import toy_dataset

PROMPTS = ("a boot", "a red shirt", "a bag on grass", "a boot")
PICTURES = [
    Image.effect_noise((64, 64), 40 + 30 * n).convert("RGB").rotate(20 + 9 * n, fillcolor=(9 + 60 * n, 200, 30))
    for n in range(4)
]
TOKENS = 16


@pytest.fixture(scope="module", autouse=True)
def short_prompts():
    """Of 48 tokens instead of 512, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TOKENS", 48)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("klein")
    return {name: save_tiny_flux2_klein(root / name, distilled=name == "distilled") for name in ("distilled", "base")}


@pytest.fixture(scope="module")
def make(folders):
    loaded = {}

    def generator(kind="distilled", **settings):
        key = kind, repr(sorted(settings.items()))
        if key not in loaded:
            defaults = {"model": str(folders[kind]), "steps": 2, "scheduler": "default", "guidance_scale": 1.0}
            config = {"name": "flux2-klein", "size": 64, "device": "cpu", **defaults, **settings}
            loaded[key] = load_generator(GeneratorConfig(**config))
        return loaded[key]

    return generator


@pytest.fixture(scope="module")
def own(folders):
    return {kind: load(diffusers.Flux2KleinPipeline, folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def tokens(make):
    """Of each picture as a reference, (4, 16, 8)."""
    generator = make()
    return generator.encode_images(torch.stack([generator.view(picture) for picture in PICTURES]))


@pytest.fixture(scope="module")
def mixed(tokens):
    """One reference, two, one of which some tokens were dropped, none."""
    embeddings = torch.zeros(4, 2 * TOKENS, 8)
    embeddings[0, :TOKENS] = tokens[0]
    embeddings[1] = tokens[1:3].flatten(0, 1)
    embeddings[2, :TOKENS] = tokens[3]
    embeddings[2, [1, 2, 7, 15]] = 0
    return Conditioning(embeddings, torch.tensor([True, True, True, False]), PROMPTS)


def called(pipeline, prompts, seeds, **call):
    """Return the images that the pipeline's own call makes of the seeds' noise, before rounding."""
    start = torch.nn.functional.pixel_unshuffle(noise(seeds, 2, 8, 8)[0], 2)
    given = {"latents": start, "num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 48, **call}
    latents = pipeline(prompt=list(prompts), height=64, width=64, output_type="latent", **given).images
    with torch.inference_mode():
        return pipeline.vae.decode(latents).sample


@pytest.mark.parametrize("references", [0, 1, 2])
@pytest.mark.parametrize(("kind", "guidance_scale"), [("distilled", 1.0), ("base", 4.0)])
def test_a_row_equals_the_pipelines_own_call(make, own, tokens, kind, guidance_scale, references):
    embeddings = tokens[:references].flatten(0, 1)[None] if references else torch.zeros(1, TOKENS, 8)
    conditioning = Conditioning(embeddings, torch.tensor([references > 0]), PROMPTS[1:2])
    images, errors = make(kind, guidance_scale=guidance_scale).sample(conditioning, SEEDS[:1])
    shown = {"image": PICTURES[:references]} if references else {}
    expected = called(own[kind], PROMPTS[1:2], SEEDS[:1], guidance_scale=guidance_scale, **shown)
    assert errors == [None]
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "guidance_scale"), [("distilled", 1.0), ("base", 4.0)])
def test_rows_of_other_numbers_of_references_in_one_batch(make, mixed, kind, guidance_scale):
    generator = make(kind, guidance_scale=guidance_scale)
    assert_batch_equals_rows(generator, mixed, SEEDS)
    assert_rows_keep_their_own(generator, mixed, SEEDS)


def test_the_pipeline_shows_every_row_all_references(make, own, tokens):
    """The trap: in a batch of two, its rows are not what they are alone; ours are."""
    alone = torch.cat([called(own["distilled"], [PROMPTS[n]], [SEEDS[n]], image=PICTURES[n]) for n in range(2)])
    together = called(own["distilled"], PROMPTS[:2], SEEDS[:2], image=PICTURES[:2])
    assert ((together - alone).abs().flatten(1).amax(1) > 0.05).all()
    conditioning = Conditioning(tokens[:2], torch.tensor([True, True]), PROMPTS[:2])
    ours, _ = make().sample(conditioning, SEEDS[:2])
    torch.testing.assert_close(ours, alone, rtol=0, atol=1e-4)


def test_dropped_tokens_are_as_good_as_never_there(make, own, mixed, monkeypatch):
    """Diffusers' own call on what is left of the sequence, each token at its own place."""
    kept = mixed.embeddings[2, :TOKENS].any(1)
    prepare = own["distilled"].prepare_image_latents

    def fewer(*args, **kwargs):
        latents, ids = prepare(*args, **kwargs)
        return latents[:, kept], ids[:, kept]

    monkeypatch.setattr(own["distilled"], "prepare_image_latents", fewer)
    expected = called(own["distilled"], PROMPTS[2:3], SEEDS[2:3], image=PICTURES[3])
    images, _ = make().sample(mixed.take([2]), SEEDS[2:3])
    assert 0 < kept.sum() < TOKENS
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)
    everything = replace(mixed.take([2]), embeddings=torch.zeros(1, 2 * TOKENS, 8))
    nothing = replace(mixed.take([2]), with_image=torch.tensor([False]))
    assert torch.equal(make().sample(everything, [1])[0], make().sample(nothing, [1])[0])


def test_a_reference_is_encoded_as_the_pipeline_does(make, own, tokens):
    pipeline = own["distilled"]
    with torch.inference_mode():
        for picture, found in zip(PICTURES, tokens, strict=True):
            pixels = pipeline.image_processor.preprocess(picture, height=64, width=64, resize_mode="crop")
            expected, _ = pipeline.prepare_image_latents([pixels], 1, None, "cpu", torch.float32)
            torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-5)
    # Shown whole where it is a square, at its centre where it is not.
    generator = make()
    assert (generator.encoder_size, generator.embedding_shape) == (64, (TOKENS, 8))
    wide = Image.new("RGB", (128, 64), (255, 0, 0))
    wide.paste(PICTURES[0], (32, 0))
    assert torch.equal(generator.view(wide), generator.view(PICTURES[0]))
    assert make(own={"reference_size": 32}).embedding_shape == (4, 8)


def test_prompts_are_messages_of_a_chat(make, own, monkeypatch):
    """All 512 tokens; the distilled pipeline's own embedding of them, padding included."""
    monkeypatch.setattr(module, "TOKENS", 512)
    expected, _ = own["distilled"].encode_prompt(list(PROMPTS[:2]))
    prompts = module.ChatPrompts(own["distilled"].tokenizer, make()._prompts._text_encoder)
    with torch.inference_mode():
        torch.testing.assert_close(prompts.encode(PROMPTS[:2]), expected, rtol=0, atol=1e-5)


def test_kept_features(make, mixed):
    """The second of two steps is not computed as a whole: other images, rows as independent."""
    cached = make(cache={"interval": 2, "branch": 0})
    images = assert_batch_equals_rows(cached, mixed, SEEDS)
    assert not torch.allclose(images, make().sample(mixed, SEEDS)[0], atol=1e-3)


def test_real_guidance_starts_from_the_source(make, own, tokens):
    pipeline, rows = own["distilled"], 2
    pixels = torch.stack([make().view(picture) for picture in PICTURES[:rows]])
    initial = tuple(InitialImage(each, 0.5) for each in pixels)
    none = Conditioning(torch.zeros(rows, TOKENS, 8), torch.tensor([False] * rows), PROMPTS[:rows], initial=initial)
    images, _ = make().sample(none, SEEDS[:rows])
    sigma = float(make()._schedulers.new(torch.device("cpu")).sigmas[1])
    source = tokens[:rows].transpose(1, 2).reshape(rows, 8, 4, 4)
    start = torch.nn.functional.pixel_unshuffle(noise(SEEDS[:rows], 2, 8, 8)[0], 2)
    latents = sigma * start + (1 - sigma) * source
    expected = called(pipeline, PROMPTS[:rows], SEEDS[:rows], latents=latents, sigmas=[0.5])
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


class Latents(Reference):
    """The maths of the recipes, in loops, on the latents that diffusers' pipeline makes of a picture."""

    size = 64

    def __init__(self, pipeline, seed):
        super().__init__(seed, PICTURES, ["a", "b", "c", "d"], (TOKENS, 8), inputs=REFERENCES)
        self.pipeline = pipeline

    def whole(self, position):
        return np.asarray(self.images[position - 1]).transpose(2, 0, 1) / 255

    def embed(self, view):
        pixels = torch.from_numpy(np.asarray(view, np.float32))[None] * 2 - 1
        with torch.inference_mode():
            return self.pipeline.prepare_image_latents([pixels], 1, None, "cpu", torch.float32)[0][0].numpy()


@pytest.mark.parametrize("name", [name for name in recipes_for("flux2-klein") if RECIPES[name].with_image])
def test_each_recipe_on_latents_equals_the_slow_reference(make, own, name):
    generator, settings, recipe = make(), ConditioningConfig(), RECIPES[name]
    for seed in (3, 8):
        reference = Latents(own["distilled"], seed)
        prepared = prepare(recipe, settings, PICTURES, reference.keys, seed, generator)
        found, draws = combine(recipe, settings, generator.encode_images(prepared.views), prepared, seed)
        expected, lam, share, _ = reference.run(name)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)
        assert (draws.lam, draws.share) == (lam, share)
        if recipe.dropout:
            assert 0 < int((~found.any(1)).sum()) < TOKENS


def test_every_recipe_in_one_batch_and_alone(make):
    conditioning = ConditioningConfig(recipe=recipes_for("flux2-klein"))
    assert {"text", "real-guidance", "image-pair", "embed-cutmix-dropout"} < set(conditioning.recipe)
    dataset = toy_dataset({"cat": 3})
    plan = make_plan(dataset, PlanConfig(per_class=1), conditioning, prompts=("{class_name}",))
    materials = Materials(dataset.reader, DecodeSettings(), conditioning, make(), ImageFormat("png", 90, None))
    rows = list(plan.rows())
    together, alone = (generate_rows(rows, materials, BatchSize(size)) for size in (len(rows), 1))
    pictures = []
    for one, other in zip(together, alone, strict=True):
        assert (one.error, one.draws) == (None, other.draws)
        shown = [torch.tensor(list(decode_stored(row.image).tobytes())) for row in (one, other)]
        assert (shown[0] - shown[1]).abs().max() <= 1  # of 255
        pictures.append(shown[0])
    assert len({bytes(picture.tolist()) for picture in pictures}) == len(rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_scale": 3.0}, r"generator\.guidance_scale: this klein is distilled, and not guided: set it to 1"),
        ({"own": {"negative_prompt": "x"}}, r"generator\.own\.negative_prompt: this klein is distilled"),
        ({"guidance_interval": (0.2, 0.8)}, r"generator\.guidance_interval: this klein is distilled"),
        ({"size": 56}, "multiples of 16 pixels; 56 is not one, 64 is"),
        ({"own": {"reference_size": 40}}, r"generator\.own\.reference_size: 16 x 16 pixels are a token; 40 is no"),
        ({"scheduler": "ddim"}, "was trained by flow matching, so it takes default, flow-euler"),
        ({"cache": {"interval": 2, "branch": 2}}, r"generator\.cache\.branch: this transformer has blocks 0 to 1"),
    ],
)
def test_what_it_cannot_do_is_refused_before_weights_are_read(folders, monkeypatch, settings, message):
    given = {"scheduler": "default", "guidance_scale": 1.0, **settings}
    config = GeneratorConfig(name="flux2-klein", model=str(folders["distilled"]), device="cpu", **given)
    assert_bad_weights_are_not_read(config, monkeypatch, ConfigError, message)


def test_rows_that_fail_in_half_precision(make, mixed):
    assert_failed_rows_are_made_again(make(dtype="bfloat16"), make(), mixed)


def test_parts_that_do_not_belong_together(make, folders, tmp_path):
    folder = shutil.copytree(folders["distilled"], tmp_path / "copy")
    path = folder / "text_encoder" / "config.json"
    values = json.loads(path.read_text())
    for key, value, message in (
        ("hidden_size", 16, "prompts of 24 features; this autoencoder and this text model give 8 and 48"),
        ("num_hidden_layers", 12, "the text model has 12 layers; klein reads its layer 27"),
    ):
        path.write_text(json.dumps({**values, "layer_types": None, key: value}))
        with pytest.raises(GeneratorError, match=message):
            make(model=str(folder))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(GeneratorError, match="transformer holds no safetensors weights"):
        make(model=str(folder))


def test_dropped_tokens_are_not_made_up_for():
    config = GeneratorConfig(name="flux2-klein")
    with pytest.raises(ConfigError, match=r"conditioning\.rescale: flux2-klein does not see the tokens"):
        check_recipes(config, ConditioningConfig(recipe="dropout", rescale=True))
    check_recipes(config, ConditioningConfig(recipe="image-pair", rescale=True))
    with pytest.raises(ConfigError, match="stable-unclip does not take reference images, which image-pair would"):
        check_recipes(GeneratorConfig(), ConditioningConfig(recipe="image-pair"))
