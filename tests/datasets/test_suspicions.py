"""What names and counts of classes show, and what they do not."""

from __future__ import annotations

import re
import unicodedata

import pytest

from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.datasets.class_names import names_for
from augcond.datasets.loading import load_held_out
from augcond.datasets.splits import make_split
from augcond.datasets.suspicions import captions, lonely, suspicious_names
from tests.toy import write_photos

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))

SUSPICIOUS = {
    "WordNet ids": (("n01440764", "n02085620"), r"WordNet ids \(n01440764, n02085620\): name the words in a file"),
    "of Stanford Dogs": (("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), "a WordNet id before them"),
    "of CUB-200": (("001.Black_footed_Albatross", "002.Laysan_Albatross"), "names with a number before them"),
    "numbers": (("0", "1", "2", "3"), r"numbers \(0, 1, 2 and 1 more\)"),
    "numbered": (("class_3", "Class 4"), "numbered classes"),
    "digests": (("9f86d081884c7d65", "60303ae22b998861"), "hex digits"),
    "camel case": (("GoldenRetriever", "PetDog"), "not written as words"),
    "forms of accents": ((NFC, NFD), r"2 classes have the same name, written with other characters.*\\xe9.*\\u0301"),
    "wide letters": (("\uff21\uff22", "AB"), r"written with other characters: .*\\uff21"),
    "case": (("Cat", "cat"), "but for case, blanks and signs: 'Cat', 'cat'"),
    "signs": (("golden_retriever", "golden retriever"), "but for case, blanks and signs"),
    "blanks": (("cat ", "cat"), "written with other characters"),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_suspicious_names_are_said(case):
    classes, message = SUSPICIOUS[case]
    assert re.search(message, "\n".join(suspicious_names(classes, names_for(classes, None))))


def test_one_prompt_for_two_classes_is_said():
    (said,) = suspicious_names(("n02012849", "n03126707", "dog"), ("crane", "crane", "dog"))
    assert said.startswith("2 classes have one name, 'crane' (n02012849, n03126707), so one prompt")


@pytest.mark.parametrize(
    "name", ["cat", "Golden Retriever", "T-shirt", "7-eleven shop", "St. Bernard", "Café crème", "猫", "u-boat"]
)
def test_words_are_left_alone(name):
    assert suspicious_names((name, "x y"), (name, "x y")) == ()


def test_captions_and_lonely_classes():
    classes = tuple(f"a photo of dog number {number}" for number in range(8))
    assert "each of the 8 images has a label of its own" in captions(classes, range(8))
    assert captions(classes, [*range(8), *range(8)]) is None
    assert captions(tuple("abcdefgh"), range(8)) is None
    assert "nearly each of 8 classes has one image" in next(lonely(classes, range(8)))
    assert "one class only, 'a'" in next(lonely(("a", "b"), [0, 0]))
    assert list(lonely(("a", "b"), [0, 1])) == []


def test_forms_of_accents_are_one_class_in_class_name_files_and_held_out_images(tmp_path):
    write_photos(tmp_path / "train", {NFC: 2, "tea": 2})
    write_photos(tmp_path / "test", {NFD: 3, "tea": 1, "empty": 0})
    (tmp_path / "names.tsv").write_text(f"{NFD}\tcoffee shop\ntea\ttea house\n", encoding="utf-8")
    data = {"path": tmp_path / "train", "test": tmp_path / "test", "class_names": tmp_path / "names.tsv"}
    config = parse_config({"data": data, "run": "x"}).data.model_copy(update={"class_names": None})
    dataset = load_dataset(parse_config({"data": data, "run": "x"}).data)
    assert dataset.class_names == ("coffee shop", "tea house")
    assert load_held_out(config, "test", dataset, make_split(dataset, None)).counts() == [3, 1]
