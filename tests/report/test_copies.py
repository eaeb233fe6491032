"""Generated images that are real ones again are counted: of their sources, of any training image, of test images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from augcond.datasets import DecodeSettings, decode
from augcond.report import copies as module
from augcond.report.copies import measure_copies
from augcond.report.facts import read_facts
from augcond.report.pictures import SourceImages
from augcond.report.verdict import answers
from augcond.store import RunFolder
from tests.datasets.photos import encode
from tests.report.runs import make_run


def scene(seed, size=(96, 80)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    root = tmp_path_factory.mktemp("copies")
    for part, start in (("photos", 0), ("test", 100)):
        for label, name in enumerate(("heron", "frog")):
            (root / part / name).mkdir(parents=True)
            for i in range(5):
                (root / part / name / f"{i}.png").write_bytes(encode(scene(start + 10 * label + i), "PNG"))
    (root / "names.tsv").write_text("heron\theron\nfrog\tfrog\n")
    config, _ = make_run(
        root,
        data={"test": root / "test"},
        plan={"per_class": 4},
        conditioning={"recipe": ["text", "image", "dropout", "mixup"]},
        generator={"name": "fake", "size": 80, "model": "fake"},
    )
    return read_facts(RunFolder(config.run))


def squared(image):
    return ImageOps.fit(image, (80, 80))


def test_shares_and_pairs(facts, monkeypatch):
    """As generated: `image` gives its source, `dropout` another training image, `text` a test image, `mixup` none."""
    photos = SourceImages(facts)
    made = module._made

    def repeated(facts, recipe, samples):
        rows = made(facts, recipe, samples)
        for number, one in enumerate(rows):
            image = one.opened()
            if recipe == "image":
                image = squared(photos.open(one.row.source_keys[0]))
                image = decode(encode(ImageOps.mirror(image), "JPEG", quality=80), DecodeSettings())
            elif recipe == "dropout" and number < 2:
                other = next(key for key in facts.folder.read_sources() if key not in one.row.source_keys)
                image = squared(photos.open(other))
            elif recipe == "text" and number == 0:
                image = squared(scene(100 + 10 * 1 + 3))
            yield module._Made(one.row, encode(image, "PNG"), module.view_of_image(image))

    monkeypatch.setattr(module, "_made", lambda *given: list(repeated(*given)))
    found = measure_copies(facts, photos, samples=100)
    assert (found.training_images, found.test_images) == (10, 10)
    shares = {
        entry.recipe: (entry.images, entry.of_source, entry.of_training, entry.of_test) for entry in found.recipes
    }
    assert shares == {
        "text": (8, 0, 0, 1 / 8),
        "image": (8, 1, 1, 0),
        "dropout": (8, 0, 2 / 8, 0),
        "mixup": (8, 0, 0, 0),
    }
    assert {(pair.recipe, pair.of, pair.mirrored) for pair in found.nearest if pair.copy} >= {("text", "test", False)}
    test = next(pair for pair in found.nearest if pair.of == "test" and pair.copy)
    assert test.key == "frog/3.png"
    told = {answer.question: answer.answer for answer in answers(facts, None, None, 1, found)}
    assert "12.5" in told["Can I trust it?"]
    assert "text are copies of test images" in told["Can I trust it?"]


def test_what_a_run_makes_of_noise_repeats_nothing(facts):
    found = measure_copies(facts, SourceImages(facts), samples=3)
    assert all((entry.of_source, entry.of_training, entry.of_test) == (0, 0, 0) for entry in found.recipes)
    assert [entry.images for entry in found.recipes] == [3] * 4
    for recipe in found.recipes:
        own = [pair.error for pair in found.nearest if pair.recipe == recipe.recipe]
        assert len(own) == module.NEAREST and own == sorted(own)


def test_real_images_that_are_gone_are_not_compared(facts, monkeypatch):
    photos = SourceImages(facts)
    monkeypatch.setattr(photos, "problem", "gone")
    assert measure_copies(facts, photos, samples=3) is None
