"""The built-in world is what its documents say: balanced, disjoint, small, and a pipeline that any diffusers opens."""

import io
import json

import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from PIL import Image
from safetensors import safe_open

from augcond.assets import WORLD

CHECKPOINT = WORLD / "checkpoint"
PER_CLASS = {"pool": 200, "validation": 50, "test": 300}
CLASS_NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


@pytest.fixture(scope="module")
def tables():
    return {part: pq.read_table(WORLD / f"{part}.parquet") for part in PER_CLASS}


@pytest.fixture(scope="module")
def pipeline():
    loaded = StableUnCLIPImg2ImgPipeline.from_pretrained(CHECKPOINT, use_safetensors=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def origins(table) -> set[tuple[str, int]]:
    return set(zip(table["source_file"].to_pylist(), table["source_index"].to_pylist(), strict=True))


def generator_origins() -> set[tuple[str, int]]:
    record = json.loads((WORLD / "generator_sources.json").read_text())
    return {(record["source_file"], index) for low, high in record["ranges"] for index in range(low, high + 1)}


def size_of(paths) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


@pytest.mark.parametrize("part", PER_CLASS)
def test_every_part_is_balanced_and_labelled(tables, part):
    labels = tables[part]["label"].to_pylist()
    assert [labels.count(label) for label in range(10)] == [PER_CLASS[part]] * 10
    assert tables[part]["class_name"].to_pylist() == [CLASS_NAMES[label] for label in labels]


@pytest.mark.parametrize("part", PER_CLASS)
def test_pictures_are_small_colour_pngs(tables, part):
    for row in tables[part]["image"].to_pylist()[::50]:
        with Image.open(io.BytesIO(row["bytes"])) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))


def test_parquet_declares_an_image_and_the_class_names(tables):
    for table in tables.values():
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"]["_type"] == "Image"
        assert features["label"] == {"names": CLASS_NAMES, "_type": "ClassLabel"}


def test_no_garment_is_in_two_places(tables):
    parts = [origins(table) for table in tables.values()]
    seen = generator_origins()
    assert len(seen) == 50_000
    assert len(seen.union(*parts)) == len(seen) + sum(len(part) for part in parts) == 50_000 + 10 * 550
    assert {file for file, _ in parts[2]} == {"test"}


def test_world_fits_its_sizes():
    assert size_of(WORLD.glob("*.parquet")) <= 8e6
    assert size_of(CHECKPOINT.rglob("*")) <= 15e6


def test_weights_are_half_precision_on_disk_and_float32_when_opened(pipeline):
    for path in CHECKPOINT.rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            dtypes = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118
        assert dtypes <= {torch.float16, torch.int64}, path.parent.name
    for part in (pipeline.unet, pipeline.vae, pipeline.image_encoder, pipeline.text_encoder, pipeline.image_normalizer):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}


def test_plain_diffusers_generates_a_picture_that_follows_its_source(pipeline, tables):
    row = tables["pool"]["image"][0].as_py()
    with Image.open(io.BytesIO(row["bytes"])) as opened:
        source = opened.convert("RGB")
    picture = pipeline(
        source, "a photo of a t-shirt", num_inference_steps=8, guidance_scale=3.0, generator=torch.manual_seed(0)
    ).images[0]
    assert picture.size == (32, 32)
    low, high = zip(*picture.getextrema(), strict=True)
    assert max(high) - min(low) > 60
    corners = [(2, 2), (29, 2)]
    wanted = [source.getpixel(corner) for corner in corners]
    found = [picture.getpixel(corner) for corner in corners]
    error = sum(abs(a - b) for left, right in zip(wanted, found, strict=True) for a, b in zip(left, right, strict=True))
    assert error / 6 < 40, f"the backdrop {wanted} became {found}"


def test_prompts_of_the_product_are_read_whole(pipeline):
    for name in CLASS_NAMES:
        tokens = pipeline.tokenizer(f"a photo of a {name}").input_ids
        assert len(tokens) <= 9
        assert pipeline.tokenizer.eos_token_id not in tokens[:-1]


def test_text_and_image_meet_in_one_space(pipeline, tables):
    with safe_open(CHECKPOINT / "text_projection/model.safetensors", "pt") as weights:
        projection = weights.get_tensor("weight").float()
    prompts = [f"a photo of a {name}" for name in CLASS_NAMES]
    tokens = pipeline.tokenizer(prompts, padding="max_length", max_length=16, return_tensors="pt").input_ids
    images = []
    for row in tables["validation"]["image"].to_pylist():
        with Image.open(io.BytesIO(row["bytes"])) as image:
            images.append(image.convert("RGB"))
    pixels = pipeline.feature_extractor(images=images, return_tensors="pt").pixel_values
    with torch.no_grad():
        texts = torch.nn.functional.normalize(pipeline.text_encoder(tokens).pooler_output @ projection.T, dim=1)
        embeddings = torch.nn.functional.normalize(pipeline.image_encoder(pixels).image_embeds, dim=1)
    labels = torch.tensor(tables["validation"]["label"].to_pylist())
    assert ((embeddings @ texts.T).argmax(1) == labels).float().mean() > 0.7
