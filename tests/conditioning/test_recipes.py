"""Every recipe against a reference of its own: hashes, draws, crops and mixing written out in slow loops."""

import dataclasses
import math
import random
from hashlib import blake2b

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop

from augcond import registry
from augcond.conditioning import (
    ACROSS_RECIPES,
    RECIPES,
    Draws,
    Prepared,
    Recipe,
    check_conditioning,
    combine,
    find_recipe,
    prepare,
)
from augcond.config import ConditioningConfig
from augcond.errors import ConfigError

SIZE = 8
EMBEDDED = [name for name in RECIPES if name != "image-pair"]
MIXING = [name for name in EMBEDDED if "mix" in name]
SHAPES = [(12,), (1, 12), (6, 4), (2 * 2, 6), (1 + 3 * 3, 4), (1 + 16 * 16, 2), (27 * 27, 1)]


class TinyGenerator:
    """A linear encoder with fixed weights."""

    encoder_size = SIZE
    image_size = (12, 10)

    def __init__(self, shape=(12,), inputs=("text", "image")):
        self.shape = shape
        self.inputs = inputs
        weights = np.random.default_rng(0).normal(size=(3 * SIZE * SIZE, math.prod(shape))) / SIZE
        self.weights = torch.from_numpy(weights.astype(np.float32))

    def view(self, image):
        pixels = np.asarray(image.resize((SIZE, SIZE), PIL.Image.Resampling.NEAREST))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255

    def encode(self, views):
        # Row by row, so that a batch cannot change a bit.
        rows = [(view.flatten()[:, None] * self.weights).sum(0) for view in views]
        return torch.stack(rows).reshape(-1, *self.shape) if rows else torch.zeros(0, *self.shape)


def picture(seed, width=20, height=16):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


PICTURES = [picture(1), picture(2, 13, 31), picture(3, 40, 9)]
KEYS = ["cat/1.png", "cat/2.png", "cat/3.png"]


REFERENCES = ("text", "reference-image")


def make(name, seed=5, images=PICTURES, keys=KEYS, shape=(12,), inputs=("text", "image"), **parameters):
    """Run one row through both functions; returns what was prepared, the embedding and the final draws."""
    config = ConditioningConfig(recipe=name, **parameters)
    generator = TinyGenerator(shape, inputs)
    recipe = find_recipe(name)
    prepared = prepare(recipe, config, images, keys, seed, generator)
    embedding, draws = combine(recipe, config, generator.encode(prepared.views), prepared, seed)
    return prepared, embedding, draws


class Reference:
    """The maths of docs/conditioning.md, for one row, in loops; shares no code with what it tests."""

    size = SIZE

    def __init__(self, seed, images, keys, shape, alpha=1.0, p=0.4, count=2, inputs=()):
        self.seed, self.images, self.keys, self.shape, self.inputs = seed, images, keys, shape, inputs
        self.generator = TinyGenerator(shape)
        self.alpha, self.p, self.count = alpha, p, count

    def stream_seed(self, purpose):
        digest = blake2b(f"{self.seed}/{purpose}".encode(), digest_size=8, person=b"augcond-stream").digest()
        return int.from_bytes(digest, "little") % 2**63

    def stream(self, purpose):
        return np.random.Generator(np.random.PCG64(self.stream_seed(purpose)))

    def weights(self):
        stream = self.stream("lambda")
        lam = stream.beta(self.alpha, self.alpha)
        weights = [lam, 1 - lam]
        for earlier in range(2, self.count):
            part = stream.beta(self.alpha, earlier * self.alpha)
            for position in range(earlier):
                weights[position] *= 1 - part
            weights.append(part)
        return lam, weights

    def crop(self, position):
        image = self.images[position - 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stream_seed(f"crop-{position}"))
            top, left, height, width = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        box = (left, top, left + width, top + height)
        cropped = image.crop(box).resize((self.size, self.size), PIL.Image.Resampling.BILINEAR)
        return np.asarray(cropped).transpose(2, 0, 1) / 255.0

    def whole(self, position):
        return self.generator.view(self.images[position - 1]).numpy()

    def embed(self, view):
        """One feature at a time."""
        flat = np.asarray(view, dtype=np.float64).reshape(-1)
        weights = self.generator.weights.double().numpy()
        return np.array([sum(flat * weights[:, feature]) for feature in range(weights.shape[1])]).reshape(self.shape)

    def embedding_of(self, position):
        repeated = self.keys[position - 1] in self.keys[: position - 1]
        return self.embed(self.crop(position) if repeated else self.whole(position))

    def box(self, lam, height, width):
        vertical, horizontal = self.stream("box").random(2)
        box_height, box_width = round(math.sqrt(1 - lam) * height), round(math.sqrt(1 - lam) * width)
        top, left = int(vertical * height) - box_height // 2, int(horizontal * width) - box_width // 2
        return [
            [top <= row < top + box_height and left <= column < left + box_width for column in range(width)]
            for row in range(height)
        ]

    def embed_cutmix(self, lam, *, at_least_half=False):
        first, second = self.embedding_of(1), self.embedding_of(2)
        vector = len(self.shape) == 1 or self.shape[0] == 1
        length = math.prod(self.shape) if vector else self.shape[0]
        grid = {4: 2, 5: 2, 10: 3, 16: 4, 26: 5, 257: 16, 729: 27}.get(length) if not vector else None
        if grid:
            cells = [cell for row in self.box(lam, grid, grid) for cell in row]
            replaced = [sum(cells) > len(cells) / 2, *cells][-length:]
        else:
            start, count = int(self.stream("run").random() * length), round((1 - lam) * length)
            replaced = [False] * length
            for step in range(count):
                replaced[(start + step) % length] = True
        if at_least_half and sum(replaced) > length / 2:
            replaced = [not place for place in replaced]
        first, second = first.reshape(length, -1), second.reshape(length, -1)
        mixed = np.array([second[i] if replaced[i] else first[i] for i in range(length)]).reshape(self.shape)
        return mixed, 1 - sum(replaced) / length

    def run(self, name):
        """Returns (embedding, lam, share, weights)."""
        lam, weights = self.weights()
        across = name.endswith("-across")
        if across and weights[1] > weights[0]:
            lam, weights = weights[1], weights[::-1]
        name = name.removesuffix("-across")
        base = name.removesuffix("-dropout")
        share = weights[0]
        if base == "text":
            return np.zeros(self.shape), None, None, []
        if base == "real-guidance":
            return np.zeros(self.shape), None, None, [1.0]
        if base in ("image", "dropout"):
            embedding, lam, share, weights = self.embedding_of(1), None, None, [1.0]
        elif base == "mixup":
            view = np.zeros((3, self.size, self.size))
            for position, weight in enumerate(weights, start=1):
                view += weight * self.crop(position)
            embedding = self.embed(view)
        elif base == "cutmix":
            view, second, box = self.crop(1).copy(), self.crop(2), self.box(lam, self.size, self.size)
            if across and sum(map(sum, box)) > self.size**2 / 2:
                box = [[not cell for cell in row] for row in box]
            for row in range(self.size):
                for column in range(self.size):
                    if box[row][column]:
                        view[:, row, column] = second[:, row, column]
            share = 1 - sum(map(sum, box)) / self.size**2
            embedding, weights = self.embed(view), [share, 1 - share]
        elif base == "image-pair":
            embedding = np.array([*self.embedding_of(1), *self.embedding_of(2)])
            lam, share, weights = None, 0.5, [0.5, 0.5]
        elif base == "embed-mixup":
            embedding = sum(weight * self.embedding_of(position) for position, weight in enumerate(weights, start=1))
        else:
            embedding, share = self.embed_cutmix(lam, at_least_half=across)
            weights = [share, 1 - share]
        if name.endswith("dropout"):
            # Of reference images whole tokens are dropped, else single features.
            parts = embedding.reshape(len(embedding) if self.inputs == REFERENCES else embedding.size, -1).copy()
            uniform = self.stream("dropout").random(len(parts))
            for part in range(len(parts)):
                if uniform[part] < self.p:
                    parts[part] = 0.0
            embedding = parts.reshape(self.shape)
        return embedding, lam, share, weights


def agrees(name, seed, shape=(12,), images=PICTURES, keys=KEYS, count=2, inputs=("text", "image"), **parameters):
    _, embedding, draws = make(name, seed, images, keys, shape, inputs, **parameters)
    reference = Reference(
        seed, images, keys, shape, parameters.get("alpha", 1.0), parameters.get("dropout", 0.4), count, inputs
    )
    expected, lam, share, weights = reference.run(name)
    assert embedding.shape == expected.shape
    assert embedding.dtype == torch.float32
    np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert (embedding.numpy() == 0).tolist() == (expected == 0).tolist()
    assert draws.lam == lam
    assert draws.share == (pytest.approx(share) if share is not None else None)
    assert draws.weights == pytest.approx(tuple(weights))


def test_the_registry_holds_the_recipes_of_the_config():
    assert (*RECIPES, *ACROSS_RECIPES) == registry.recipes.names()
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    with pytest.raises(TypeError):
        RECIPES["text"] = RECIPES["image"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["text"].dropout = True


def test_how_many_sources_a_recipe_takes():
    two, four = ConditioningConfig(), ConditioningConfig(sources=4)
    expected = {
        "text": (0, 0),
        "real-guidance": (1, 1),
        "image": (1, 1),
        "dropout": (1, 1),
        "mixup": (2, 4),
        "embed-mixup": (2, 4),
    }
    expected |= {"cutmix": (2, 2), "embed-cutmix": (2, 2), "image-pair": (2, 2)}
    for name, recipe in RECIPES.items():
        base = name if name == "dropout" else name.removesuffix("-dropout")
        assert (recipe.source_count(two), recipe.source_count(four)) == expected[base]


@pytest.mark.parametrize("name", EMBEDDED)
@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=10)
def test_recipe_equals_the_slow_reference(name, seed):
    agrees(name, seed)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("name", EMBEDDED)
def test_recipe_equals_the_slow_reference_on_tokens(name, shape):
    for seed in range(2 if shape[0] > 200 else 8):
        agrees(name, seed, shape)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_equals_the_slow_reference_on_reference_images(name):
    """The latents of a picture on a grid of 4 x 4; dropout drops tokens, and a pair has both pictures' tokens."""
    for seed in range(6):
        agrees(name, seed, (16, 3), inputs=REFERENCES)
    agrees(name, 6, (16, 3), images=[PICTURES[0]] * 2, keys=[KEYS[0]] * 2, inputs=REFERENCES)


def test_dropout_leaves_whole_tokens_of_reference_images_in_its_share():
    both = Recipe("both", embeddings="pair", dropout=True)
    views, config = torch.rand(2, 400, 3), ConditioningConfig(dropout=0.3)
    prepared = Prepared(torch.zeros(2, 3, SIZE, SIZE), Draws(), whole_tokens=True)
    embedding, draws = combine(both, config, views, prepared, 5)
    kept = (embedding != 0).all(1)
    assert (embedding.shape, draws.weights) == ((800, 3), (0.5, 0.5))
    assert torch.equal(embedding[kept], views.flatten(0, 1)[kept])
    assert not embedding[~kept].any()
    assert abs(float(kept.float().mean()) - 0.7) < 0.05


@pytest.mark.parametrize("name", EMBEDDED)
def test_recipe_equals_the_slow_reference_in_a_class_of_one_image(name):
    for seed in range(5):
        agrees(name, seed, images=[PICTURES[0]] * 2, keys=[KEYS[0]] * 2)


@pytest.mark.parametrize("name", ["mixup", "embed-mixup", "embed-mixup-dropout", "cutmix"])
def test_more_than_two_sources(name):
    for seed in range(5):
        agrees(name, seed, count=3, sources=3)
        agrees(name, seed, count=3, sources=3, images=[PICTURES[0], PICTURES[1], PICTURES[0]], keys=["a", "b", "a"])


@pytest.mark.parametrize("name", ["mixup", "cutmix-dropout", "embed-cutmix-dropout"])
def test_parameters_reach_the_operations(name):
    for seed in range(5):
        agrees(name, seed, alpha=0.3, dropout=0.8)


@pytest.mark.parametrize("name", ACROSS_RECIPES)
def test_recipes_of_two_classes_equal_the_slow_reference(name):
    for seed in range(12):
        for shape in ((12,), (1 + 5 * 5, 4)) if name.startswith("embed") and seed < 6 else ((12,),):
            agrees(name, seed, shape)


@given(name=st.sampled_from(list(ACROSS_RECIPES)), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_a_row_of_two_classes_is_mostly_of_its_own(name, seed):
    _, embedding, draws = make(name, seed)
    assert 0.5 <= draws.share <= 1
    assert draws.weights == pytest.approx((draws.share, 1 - draws.share))
    assert 0.5 <= draws.lam <= 1
    within = make(name.removesuffix("-across"), seed)[2]
    if within.lam >= 0.5 and within.share >= 0.5:
        # What is drawn is what the recipe of one class draws; only which source is which is settled.
        assert torch.equal(embedding, make(name.removesuffix("-across"), seed)[1])
    with pytest.raises(ValueError, match="across is of a cutmix, or of a mixup with sources=2"):
        Recipe("x", embeddings="mixup", across=True)


def test_rescaled_dropout():
    plain, rescaled = (make("dropout", rescale=rescale)[1] for rescale in (False, True))
    torch.testing.assert_close(rescaled, plain / 0.6)


def test_a_class_of_one_image_still_mixes():
    for name in MIXING:
        alone = [make(name, seed, [PICTURES[0]] * 2, [KEYS[0]] * 2, mix_probability=0.0)[1] for seed in range(6)]
        mixed = [make(name, seed, [PICTURES[0]] * 2, [KEYS[0]] * 2)[1] for seed in range(6)]
        assert any(not torch.equal(one, other) for one, other in zip(alone, mixed, strict=True)), name


def test_in_embed_recipes_the_first_view_of_a_repeated_image_stays_whole():
    prepared, _, _ = make("embed-mixup", images=[PICTURES[0]] * 2, keys=["a", "a"])
    assert torch.equal(prepared.views[0], TinyGenerator().view(PICTURES[0]))
    assert not torch.equal(prepared.views[1], prepared.views[0])


def test_embed_cutmix_changes_the_right_number_of_features_and_no_others():
    # The published script slices the guidance batch and changes none at all.
    for seed in range(40):
        prepared, embedding, draws = make("embed-cutmix", seed)
        first, second = TinyGenerator().encode(prepared.views)
        changed = embedding != first
        assert int(changed.sum()) == round((1 - draws.lam) * 12)
        assert torch.equal(embedding[changed], second[changed])
        assert draws.share == 1 - int(changed.sum()) / 12


@pytest.mark.parametrize("name", MIXING)
def test_mix_probability_mixes_its_share_of_rows(name):
    seeds = range(60 if name == "cutmix" else 12)
    mixed = 0
    for seed in seeds:
        _, embedding, draws = make(name, seed, mix_probability=0.5)
        _, always, always_draws = make(name, seed)
        if draws == always_draws:
            mixed += 1
            assert torch.equal(embedding, always)
        else:
            _, alone, alone_draws = make(name, seed, mix_probability=0.0)
            assert torch.equal(embedding, alone)
            assert draws == alone_draws
            assert (draws.lam, draws.share, draws.weights) == (1.0, 1.0, (1.0, 0.0))
    if name == "cutmix":
        assert 18 <= mixed <= 42


def test_an_unmixed_row_is_its_first_source_as_the_recipe_views_it():
    reference = Reference(5, PICTURES, KEYS, (12,))
    prepared, _, _ = make("mixup", mix_probability=0.0)
    np.testing.assert_allclose(prepared.views.numpy(), reference.crop(1)[None], atol=1e-6)
    prepared, embedding, _ = make("embed-cutmix", mix_probability=0.0)
    assert torch.equal(prepared.views[0], TinyGenerator().view(PICTURES[0]))
    assert torch.equal(embedding, make("image")[1])
    _, _, draws = make("mixup", mix_probability=0.0, sources=3)
    assert draws.weights == (1.0, 0.0, 0.0)


def test_lambda_crops_and_dropout_are_paired_over_recipes():
    for seed in range(10):
        rows = {name: make(name, seed) for name in EMBEDDED}
        assert len({rows[name][2].lam for name in MIXING}) == 1
        for name in EMBEDDED:
            if name.endswith("-dropout"):
                base = rows[name.removesuffix("-dropout")]
                assert torch.equal(rows[name][0].views, base[0].views)
                kept = rows[name][1] != 0
                assert torch.equal(rows[name][1][kept], base[1][kept])
                assert torch.equal(kept, rows["dropout"][1] != 0)
        # With lambda 1, both pixel recipes leave the first crop, so the crops are one and the same.
        crops = {make(name, seed, mix_probability=0.0)[0].views.numpy().tobytes() for name in ("mixup", "cutmix")}
        assert len(crops) == 1
        assert make("mixup", seed, sources=3)[2].lam == rows["mixup"][2].lam


def test_lambda_is_beta_distributed_over_rows():
    stats = pytest.importorskip("scipy.stats")
    image, config = [picture(0, 4, 4)] * 2, ConditioningConfig(recipe="embed-mixup", alpha=0.5)
    drawn = [
        prepare(RECIPES["embed-mixup"], config, image, ["a", "b"], seed, TinyGenerator()).draws.lam
        for seed in range(800)
    ]
    assert stats.kstest(drawn, stats.beta(0.5, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", RECIPES)
def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order(name):
    config, generator, recipe = ConditioningConfig(recipe=name), TinyGenerator(), RECIPES[name]

    def run(seeds):
        prepared = [prepare(recipe, config, PICTURES[:2], KEYS[:2], seed, generator) for seed in seeds]
        embeddings = generator.encode(torch.cat([row.views for row in prepared]))
        parts = embeddings.split([len(row.views) for row in prepared])
        rows = zip(seeds, parts, prepared, strict=True)
        return {seed: combine(recipe, config, part, row, seed) for seed, part, row in rows}

    batch = run([1, 2, 3, 4])
    for other in (run([4, 2, 3, 1]), run([3]), run([2, 9])):
        for seed in other.keys() & batch.keys():
            assert other[seed][1] == batch[seed][1]
            assert torch.equal(other[seed][0], batch[seed][0])


@given(seed=st.integers(0, 2**63 - 1), alpha=st.floats(0.1, 10))
@settings(max_examples=15)
def test_mixes_stay_between_their_sources(seed, alpha):
    for name in ("mixup", "cutmix"):
        views = make(name, seed, sources=3 if name == "mixup" else 2, alpha=alpha)[0].views
        assert views.shape == (1, 3, SIZE, SIZE)
        assert views.min() >= 0
        assert views.max() <= 1
    for name in ("embed-mixup", "embed-cutmix"):
        prepared, embedding, draws = make(name, seed, alpha=alpha)
        sources = TinyGenerator().encode(prepared.views)
        assert (embedding >= sources.amin(0)).all()
        assert (embedding <= sources.amax(0)).all()
        assert sum(draws.weights) == pytest.approx(1)


def test_slerp_is_an_option_of_embed_mixup():
    prepared, embedding, draws = make("embed-mixup", interpolation="slerp")
    first, second = TinyGenerator().encode(prepared.views)
    length = draws.lam * first.norm() + (1 - draws.lam) * second.norm()
    assert float(embedding.norm()) == pytest.approx(float(length), rel=1e-5)
    assert not torch.equal(embedding, make("embed-mixup")[1])


def test_augment_is_applied_to_every_source_before_views_and_crops():
    flip = ({"name": "RandomHorizontalFlip", "p": 1.0},)
    flipped = [image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) for image in PICTURES]
    for name in RECIPES:
        prepared, embedding, draws = make(name, augment=flip)
        expected = make(name, images=flipped)
        assert torch.equal(prepared.views, expected[0].views)
        assert torch.equal(embedding, expected[1])
        assert draws == expected[2]


@pytest.mark.parametrize("name", RECIPES)
def test_no_global_randomness_is_used_or_changed(name):
    augment = ({"name": "RandomRotation", "degrees": 20}, {"name": "RandAugment"})
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    _, embedding, _ = make(name, augment=augment)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    torch.manual_seed(4)
    assert torch.equal(make(name, augment=augment)[1], embedding)


def test_sources_are_not_changed():
    before = [image.tobytes() for image in PICTURES]
    for name in RECIPES:
        make(name)
    assert [image.tobytes() for image in PICTURES] == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recipe": "cutmix", "sources": 3}, "sources: 3 does not apply to recipe cutmix, only to mixup"),
        ({"recipe": ("image", "embed-cutmix"), "sources": 3}, "does not apply to recipes image, embed-cutmix"),
        ({"recipe": "mixup", "interpolation": "slerp"}, "slerp does not apply to recipe mixup, only to embed-mixup"),
        ({"recipe": "image", "augment": ({"name": "Nonsense"},)}, "no v2 transform 'Nonsense'"),
    ],
)
def test_settings_that_cannot_work_are_refused_early(parameters, message):
    with pytest.raises(ConfigError, match=message):
        check_conditioning(ConditioningConfig(**parameters))


def test_settings_that_fit_one_of_several_recipes_are_accepted():
    check_conditioning(ConditioningConfig())
    check_conditioning(ConditioningConfig(recipe=("cutmix", "mixup"), sources=3))
    check_conditioning(ConditioningConfig(recipe=tuple(RECIPES), interpolation="slerp"))
    check_conditioning(ConditioningConfig(recipe="image", augment=({"name": "RandomHorizontalFlip"},)))


def test_misuse_is_named():
    config = ConditioningConfig(recipe="mixup")
    with pytest.raises(ValueError, match="recipe mixup takes 2 images"):
        prepare(RECIPES["mixup"], config, PICTURES[:1], KEYS[:1], 0, TinyGenerator())
    with pytest.raises(ValueError, match="2 images and 1 keys"):
        prepare(RECIPES["mixup"], config, PICTURES[:2], KEYS[:1], 0, TinyGenerator())
    prepared = prepare(RECIPES["mixup"], config, PICTURES, KEYS, 0, TinyGenerator())
    assert isinstance(prepared, Prepared)
    with pytest.raises(ValueError, match="1 views"):
        combine(RECIPES["mixup"], config, torch.zeros(2, 12), prepared, 0)


def test_real_guidance_starts_from_the_first_source_at_the_generators_size():
    prepared, embedding, _ = make("real-guidance", strength=0.3)
    assert prepared.views.shape == (0, 3, SIZE, SIZE)
    assert not embedding.any()
    assert prepared.initial.strength == 0.3
    # 20 x 16 pixels cover 10 x 12 at a height of 12; what is left over is cut off on both sides.
    resized = PICTURES[0].resize((10, 12), PIL.Image.Resampling.LANCZOS, box=(10 - 20 / 3, 0, 10 + 20 / 3, 16))
    expected = np.asarray(resized).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(prepared.initial.pixels.numpy(), expected, atol=1e-6)
    flipped = make("real-guidance", augment=({"name": "RandomHorizontalFlip", "p": 1.0},))[0].initial
    other = make("real-guidance", images=[PICTURES[0].transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), *PICTURES[1:]])
    assert torch.equal(flipped.pixels, other[0].initial.pixels)
    assert all(make(name)[0].initial is None for name in RECIPES if name != "real-guidance")


def test_a_recipe_is_a_composition():
    assert Recipe("text", with_image=False).mixes is False
    with pytest.raises(ValueError, match="'pair' is neither"):
        Recipe("of pixels", pixels="pair")
    assert [name for name, recipe in RECIPES.items() if recipe.mixes] == [*MIXING, "image-pair"]
