from __future__ import annotations

import pytest
from PIL import Image, features

from augcond.datasets import DecodeSettings, decoding, formats, list_folder, verify
from augcond.datasets.decoding import decode, examine
from augcond.datasets.formats import describe_ignored, kind_of
from augcond.errors import DatasetError, ImageError
from tests.datasets.photos import encode, exif, picture

PLAIN = DecodeSettings()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
AVIF = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(200)


@pytest.fixture
def without_plugins(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    monkeypatch.setattr(formats, "_has_avif", lambda: False)
    decoding._plugin.cache_clear()
    yield
    decoding._plugin.cache_clear()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (HEIC, "HEIF"),
        (AVIF, "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", None),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"II+\0", "TIFF"),
        (b"", None),
    ],
)
def test_kind_of(data, kind):
    assert kind_of(data) == kind


@pytest.mark.parametrize(
    ("data", "way"), [(HEIC, r"pip install 'augcond\[heic\]'"), (AVIF, r"pip install 'pillow>=11\.3'")]
)
def test_the_way_to_read_it_is_named(without_plugins, data, way):
    with pytest.raises(ImageError, match=way):
        decode(data, PLAIN)
    with pytest.raises(ImageError, match=way):
        examine(data, PLAIN)


def test_a_class_of_photos_of_a_phone_is_not_passed_over(without_plugins, tmp_path):
    for name, data in (("iphone/1.HEIC", HEIC), ("web/1.jfif", encode(Image.new("RGB", (9, 9)), "JPEG"))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=r"1 of 2 files cannot be used .*: 1 x HEIC is not read .*augcond\[heic\]"):
        verify(list_folder(tmp_path), PLAIN)


def test_once_the_plugin_is_there_rejected_images_are_looked_at_again(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.avif").write_bytes(AVIF)
    cache, listing = tmp_path / "cache.parquet", list_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(formats, "_has_avif", lambda: False)
        decoding._plugin.cache_clear()
        (file,) = verify(listing, PLAIN, cache=cache, max_bad_share=1).rejected
        assert "pip install" in file.reason
    decoding._plugin.cache_clear()
    (file,) = verify(listing, PLAIN, cache=cache, max_bad_share=1).rejected
    assert "pip install" not in file.reason


def test_avif():
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    check_phone_format("AVIF")


def test_heic():
    pytest.importorskip("pillow_heif").register_heif_opener()
    check_phone_format("HEIF")


def check_phone_format(kind):
    import numpy as np

    photo = picture(np.random.default_rng(0), 64, 48)
    data = encode(photo, kind, quality=95)
    assert np.abs(np.asarray(decode(data, PLAIN)).astype(int) - np.asarray(photo)).mean() < 8
    turned = encode(photo, kind, exif=exif(6).tobytes())
    assert (examine(turned, PLAIN).width, examine(turned, PLAIN).height) == decode(turned, PLAIN).size == (48, 64)
    with pytest.raises(ImageError, match="too large"):
        decode(data, DecodeSettings(max_pixels=1000))
    for cut in (30, len(data) // 2, len(data) - 20):
        with pytest.raises(ImageError, match=rf"(broken|truncated).* {kind} file"):
            decode(data[:cut], PLAIN)


def test_ignored_files_are_described():
    files = ["a/1.CR2", "a/2.cr2", "a/README", "a/b.tar.gz", "x.txt", "y.txt", "z.txt", "1.pdf", "1.doc"]
    assert describe_ignored(files) == "3 x .txt, 2 x .cr2, 1 x no suffix, 1 x .gz, 1 x .pdf, ..."
    assert describe_ignored([]) == ""
