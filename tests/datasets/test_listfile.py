from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.datasets import list_from_file
from augcond.datasets.listfile import LABEL_COLUMNS, PATH_COLUMNS
from augcond.errors import DatasetError


@pytest.fixture
def write(tmp_path):
    def make(content: str | bytes, name: str = "list.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def pairs(listing):
    return {key: listing.classes[label] for key, label in zip(listing.keys, listing.labels, strict=True)}


def test_lines(write):
    listing = list_from_file(write("b.jpg 10\na.jpg\t 9 \n\n# comment\n  my photos/x  y.jpg   2\n./c.jpg 2\n"))
    assert listing.classes == ("2", "9", "10")
    assert listing.keys == ("b.jpg", "a.jpg", "my photos/x  y.jpg", "c.jpg")
    assert pairs(listing) == {"b.jpg": "10", "a.jpg": "9", "my photos/x  y.jpg": "2", "c.jpg": "2"}


def test_words_are_sorted_by_name(write):
    listing = list_from_file(write("1.jpg tench\n2.jpg 10\n3.jpg 9\n4.jpg Goldfish_red"))
    assert listing.classes == ("10", "9", "Goldfish_red", "tench")
    assert listing.class_names == ("10", "9", "Goldfish red", "tench")


def test_negative_integers_are_numbers(write):
    assert list_from_file(write("1.jpg 3\n2.jpg -1\n3.jpg +2\n")).classes == ("-1", "+2", "3")


def test_byte_order_mark_and_windows_lines(write):
    assert pairs(list_from_file(write(b"\xef\xbb\xbfa.jpg 0\r\nb c.jpg 1\r\n"))) == {"a.jpg": "0", "b c.jpg": "1"}
    csv = write(b"\xef\xbb\xbfPath,Label\r\na.jpg,0\r\n\r\n", "list.csv")
    assert pairs(list_from_file(csv)) == {"a.jpg": "0"}


def test_names_may_hold_what_unicode_calls_a_line_end(write):
    listing = list_from_file(write("10.00\u202fAM.png 0\nx\u2028y\x0bz\x85.png 1\n"))
    assert listing.keys == ("10.00\u202fAM.png", "x\u2028y\x0bz\x85.png")


def test_paths_are_relative_to_the_list(write, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    listing = list_from_file(write(f"photos/a.jpg 0\n{tmp_path}/photos/a.jpg 1\n"))
    assert [listing.reader.read(key) for key in listing.keys] == [b"1", b"1"]


@pytest.mark.parametrize("path_column", PATH_COLUMNS)
@pytest.mark.parametrize("label_column", LABEL_COLUMNS)
def test_csv_columns_by_their_usual_names(write, path_column, label_column):
    content = f'# made by hand\nid, {label_column.upper()} ,{path_column}\n7,cat,"a, b.jpg"\n8,"big ""dog""",c.jpg\n'
    listing = list_from_file(write(content, "list.CSV"))
    assert pairs(listing) == {"a, b.jpg": "cat", "c.jpg": 'big "dog"'}


def test_tab_separated(write):
    assert pairs(list_from_file(write("path\tlabel\na b.jpg\tgolden retriever\n", "x.tsv"))) == {
        "a b.jpg": "golden retriever"
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "a.jpg 0\nb.jpg\n", "x.txt line 2: expected `path label`, got 'b.jpg'"),
        ("x.txt", "a.jpg 0\nb.jpg 1\na.jpg 0\n", "x.txt line 3: a.jpg was listed before, in line 1; keep one"),
        ("x.txt", "a.jpg 0\n\n./a.jpg 1", "x.txt line 3: a.jpg was listed before, in line 1, as '0' and now as '1'"),
        ("x.txt", "a.jpg 7\nb.jpg 007\n", "x.txt line 2: label 007 is written 7 in line 1"),
        ("x.txt", "# nothing\n\n", "no images listed in .*x.txt: expected lines such as"),
        ("x.txt", b"a.jpg 0\ncaf\xe9.jpg 1\n", "x.txt line 2: not UTF-8"),
        ("x.txt", "a\0.jpg 0\n", "x.txt line 1: the path holds a NUL"),
        ("x.csv", "", "no images listed in .*x.csv"),
        ("x.csv", "path,label\n", "no images listed in .*x.csv"),
        (
            "x.csv",
            "name,label\na.jpg,0\n",
            r"x.csv line 1: the header names no column 'path' \(or one of file, .*'name'",
        ),
        ("x.csv", "path,wnid\na.jpg,0\n", "x.csv line 1: the header names no column 'label'"),
        ("x.csv", "path,path,label\na,b,0\n", "x.csv line 1: the header names column 'path' twice"),
        ("x.csv", "path,label\na.jpg,0\nb,c.jpg,0\n", "x.csv line 3: 3 fields, but the header has 2"),
        ("x.csv", "path,label\na.jpg,\n", "x.csv line 2: the label is empty"),
        ("x.csv", "path,label\n ,3\n", "x.csv line 2: the path is empty"),
        ("x.csv", 'path,label\n"a.jpg,0\n', "x.csv line 2: unexpected end of data"),
        ("x.csv", "path,label\na.jpg,0\n#c\nb.jpg,0\na.jpg,1\n", "x.csv line 5: a.jpg was listed before, in line 2"),
    ],
)
def test_errors_name_file_and_line(write, name, content, message):
    with pytest.raises(DatasetError, match=message):
        list_from_file(write(content, name))


def test_missing_list(tmp_path):
    with pytest.raises(DatasetError, match=r"no file at .*nowhere.txt"):
        list_from_file(tmp_path / "nowhere.txt")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        list_from_file(tmp_path)


def test_class_names(write):
    names = write("0\tgreat white shark\n1\ttench\n", "names.tsv")
    assert list_from_file(write("a.jpg 1\nb.jpg 0\n"), names).class_names == ("great white shark", "tench")


@settings(deadline=None)  # machines under load are slow
@given(st.binary(max_size=200), st.sampled_from(["fuzz.txt", "fuzz.csv", "fuzz.tsv"]))
def test_any_bytes_are_a_list_or_a_clear_error(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        listing = list_from_file(path)
    except DatasetError as error:
        assert name in str(error)
    else:
        assert len(set(listing.keys)) == len(listing.keys) == len(listing.labels) > 0


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=12)


@settings(deadline=None)  # machines under load are slow
@given(st.dictionaries(WORDS, st.integers(-5, 2000), min_size=1, max_size=20))
def test_every_path_comes_back_with_its_label(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    labels = {f"photos/{name}.jpg": label for name, label in labels.items()}
    labels = {key: label for key, label in labels.items() if "//" not in key and "/./" not in key}
    if not labels:
        return
    path.write_text("".join(f"{key} {label}\n" for key, label in labels.items()), encoding="utf-8", newline="")
    listing = list_from_file(path)
    assert {key: int(class_id) for key, class_id in pairs(listing).items()} == labels
    assert [int(class_id) for class_id in listing.classes] == sorted(set(labels.values()))


ROWS = {
    "labels that are hashtags": ("label,path\n#cats,1.jpg\n#dogs,2.jpg\n", {"1.jpg": "#cats", "2.jpg": "#dogs"}),
    "paths that start with #": ("path,label\n#1.jpg,a\n#2.jpg,b\n", {"#1.jpg": "a", "#2.jpg": "b"}),
    "quoted": ('path,label\n"#1.jpg",a\n', {"#1.jpg": "a"}),
    "comments before the header": ("#a\n# b, c\n\npath,label\n#1.jpg,a\n", {"#1.jpg": "a"}),
    "comments between rows": ("path,label\n1.jpg,a\n# two of a kind\n2.jpg,b\n", {"1.jpg": "a", "2.jpg": "b"}),
    "a # on a line of its own inside quotes": ('path,label,note\n1.jpg,a,"x\n#y"\n', {"1.jpg": "a"}),
    "tabs": ("path\tlabel\n#1.jpg\t#a\n", {"#1.jpg": "#a"}),
    "-1 beside 0": ("path,label\n1.jpg,0\n2.jpg,-1\n3.jpg,1\n", {"1.jpg": "0", "3.jpg": "1"}),
    "-1 beside 1 alone": ("path,label\n1.jpg,1\n2.jpg,-1\n", {"1.jpg": "1", "2.jpg": "-1"}),
    "-1 beside names": ("path,label\n1.jpg,0\n2.jpg,-1\n3.jpg,cat\n", {"1.jpg": "0", "2.jpg": "-1", "3.jpg": "cat"}),
}


@pytest.mark.parametrize("case", ROWS)
def test_no_row_of_a_table_is_lost(write, case):
    content, expected = ROWS[case]
    listing = list_from_file(write(content, "x.tsv" if case == "tabs" else "x.csv"))
    assert pairs(listing) == expected
    assert [(file.key, file.reason) for file in listing.rejected] == (
        [("2.jpg", "no label: -1")] if case == "-1 beside 0" else []
    )


def test_lines_taken_for_comments_that_name_images_are_said(write):
    listing = list_from_file(write("#1.jpg a\n# 2.jpg b\n3.jpg c\n#note on 4\n"))
    assert listing.keys == ("3.jpg",)
    assert len(listing.warnings) == 1
    assert "1 lines that start with # and name an image, such as line 1, are taken for comments" in listing.warnings[0]
