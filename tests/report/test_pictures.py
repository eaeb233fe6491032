import io

import pytest
from PIL import Image

from augcond.report.pictures import SourceImages, Thumbnails, encode_thumbnail, gallery_data
from augcond.report.sample import gallery_positions, read_groups


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [((32, 32), "PNG", (32, 32)), ((800, 400), "WEBP", (160, 80)), ((65, 10), "WEBP", (65, 10))],
)
def test_small_pictures_stay_as_they_are_and_large_ones_shrink(size, kind, expected):
    data, extension = encode_thumbnail(Image.new("RGB", size, "teal"), 160)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == (kind, expected) and extension == f".{kind.lower()}"


def test_each_source_is_written_once(facts, tmp_path):
    thumbnails = Thumbnails.sized_for(tmp_path, SourceImages(facts), 20)
    key = facts.plan.plan.table["source_keys"][1][0].as_py()
    name = thumbnails.source(key)

    assert thumbnails.source(key) == name and thumbnails.count == 1
    assert thumbnails.bytes == (tmp_path / "images" / name).stat().st_size


def test_a_source_that_is_gone_is_counted(facts, tmp_path):
    thumbnails = Thumbnails.sized_for(tmp_path, SourceImages(facts), 20)
    assert thumbnails.source("heron/none.jpg") is None
    assert thumbnails.lost == {"heron/none.jpg"}


def test_pictures_stop_at_the_limit(facts, tmp_path):
    groups = list(read_groups(facts, gallery_positions(facts, 1000)))
    thumbnails = Thumbnails.sized_for(tmp_path, SourceImages(facts), 20)
    thumbnails.limit = 5000
    data = gallery_data(facts, groups, thumbnails)

    assert 0 < len(data["groups"]) < len(groups)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) == thumbnails.bytes < 20_000


def test_the_gallery_says_what_was_drawn(facts, tmp_path):
    groups = list(read_groups(facts, gallery_positions(facts, 30)))
    data = gallery_data(facts, groups, Thumbnails.sized_for(tmp_path, SourceImages(facts), 20))

    for group, entry in zip(groups, data["groups"], strict=True):
        # Numbers in a browser hold 53 bits, seeds 63.
        assert entry["seed"] == str(group.seed)
        assert [key for _, key in entry["sources"]] == list(dict.fromkeys(group.source_keys))
        for row, shown in zip(group.rows, entry["rows"], strict=True):
            assert data["recipes"][shown["recipe"]] == row.recipe
            assert data["prompts"][shown["prompt"]] == row.prompt
            assert shown["lam"] == (None if row.lam is None else round(row.lam, 3))
            assert (shown["image"] is None) == (row.image is None)
