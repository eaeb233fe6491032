from __future__ import annotations

from dataclasses import replace

import pytest

from augcond.datasets import read_class_names
from augcond.datasets.class_names import names_for
from augcond.errors import DatasetError
from tests.toy import toy_dataset


@pytest.fixture
def write(tmp_path):
    def make(content: str, name: str = "names.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return make


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "n01\ttench\nn02\tgreat  white shark\n"),
        ("names.txt", "\ufeff# ImageNet\r\nn01 tench\r\n\r\n  n02   great white shark  \r\n"),
        ("names.csv", "n01,tench\nn02,great white shark\n"),
        ("names.csv", 'class_id,name,notes\nn01,tench,a fish\n# c\n"n02","great white shark",\n'),
    ],
)
def test_formats(write, name, content):
    assert read_class_names(write(content, name)) == {"n01": "tench", "n02": "great white shark"}


def test_ids_may_hold_blanks_before_a_tab_and_names_commas_in_quotes(write):
    assert read_class_names(write("tree frog\tgreen frog")) == {"tree frog": "green frog"}
    assert read_class_names(write('id,name\nx,"cat, tabby"\n', "n.csv")) == {"x": "cat, tabby"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.txt", "a cat\nb\n", "n.txt line 2: expected a class id and a name"),
        ("n.txt", "a cat\n\na dog\n", "n.txt line 3: class 'a' was named before, in line 1"),
        ("n.txt", "# only this\n", "n.txt names no classes"),
        ("n.csv", "a,cat\nb,\n", "n.csv line 2: expected"),
    ],
)
def test_errors(write, name, content, message):
    with pytest.raises(DatasetError, match=message):
        read_class_names(write(content, name))


def test_classes_must_be_named_and_more_may_be(write):
    path = write("n01440764 tench\nn01443537 goldfish\n")
    assert names_for(["n01443537", "n01440764"], path) == ("goldfish", "tench")
    with pytest.raises(DatasetError, match=r"names no class 'cat', 'dog': add a line for each"):
        names_for(["cat", "dog", "n01440764", "n01443537"], path)
    with pytest.raises(DatasetError, match=r"names no class 'n0144353' \(is 'n01443537' in the file meant to be 'n014"):
        names_for(["n01440764", "n0144353"], path)
    assert names_for(["n01440764"], path) == ("tench",)


def test_several_names_are_parted_where_that_is_asked_for(write):
    path = write("a\tcat |tom cat|cat\nb\tdog\n")
    assert names_for(["a", "b"], path, several=True) == ("cat |tom cat|cat", "dog")
    listed = replace(toy_dataset({"a": 1, "b": 1}), class_names=("cat |tom cat|cat", "dog"))
    assert listed.drawn_names == (("cat |tom cat|cat",), ("dog",))
    assert replace(listed, several_names=True).drawn_names == (("cat", "tom cat"), ("dog",))
    empty = write("a\tcat||dog\n")
    assert names_for(["a"], empty) == ("cat||dog",)
    with pytest.raises(DatasetError, match=r"of the names of 'a' in 'cat\|\|dog', one is empty"):
        names_for(["a"], empty, several=True)


def test_without_a_file_ids_are_names():
    assert names_for(["golden_retriever", "a  b", "_", "n01"], None) == ("golden retriever", "a b", "_", "n01")


def test_missing_file(tmp_path):
    with pytest.raises(DatasetError, match="no file at"):
        read_class_names(tmp_path / "nowhere")
