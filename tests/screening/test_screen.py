"""Screening: margins, a threshold from real validation images, and what is dropped."""

import io
import json
import shutil
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augcond.config import GeneratorConfig
from augcond.config.training import JudgeName
from augcond.datasets.builtin import list_builtin
from augcond.errors import ConfigError, LeakError, RunError
from augcond.experiments.push import prepare_push
from augcond.generators import load_generator
from augcond.pipeline import generate, run, train
from augcond.screening.screen import JUDGES, margins, most_useful, screened_out, threshold_from
from augcond.store import RunFolder, export_run
from augcond.testing import save_tiny_stable_unclip
from augcond.training.experiment import load_experiment
from tests.toy import shard_bytes
from tests.training.toys import toy_run, write_colours


def test_every_judge_that_a_config_may_name_is_there():
    assert {"none", *JUDGES} == set(get_args(JudgeName))


def test_margins_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert margins(scores, torch.tensor([0, 1])).tolist() == [1.0, -2.0]


def test_the_threshold_rejects_the_stated_share_of_real_images():
    real = torch.arange(100).float()
    for share in (0.05, 0.2, 0.501):
        rejected = int((real < threshold_from(real, share)).sum())
        assert share * 100 - 1.2 <= rejected <= share * 100


def test_the_threshold_is_a_margin_of_the_validation_images(tmp_path):
    config = toy_run(tmp_path, screening={"by": "encoder", "rejected_real": 0.3})
    generate(config)
    screened_out(load_experiment(config))
    generator = load_generator(config.generator)

    def encoded(part: str, name: str) -> np.ndarray:
        views = []
        for path in sorted((tmp_path / part / name).iterdir()):
            with Image.open(path) as image:
                views.append(generator.view(image))
        features = generator.encode_images(torch.stack(views)).flatten(1).double().numpy()
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    means = [encoded("train", name).mean(axis=0) for name in "abc"]
    found = []
    for label, name in enumerate("abc"):
        for image in encoded("validation", name):
            scores = [image @ mean / np.linalg.norm(mean) for mean in means]
            found.append(scores[label] - max(scores[:label] + scores[label + 1 :]))
    found.sort()
    about = json.loads((config.run / "screening.json").read_text())
    # Of 15 images four may fall below it: the fifth would be a third.
    assert about["threshold"] == pytest.approx(found[4], abs=1e-5)
    assert about["rejected_real"] == pytest.approx(4 / 15)
    assert about["validation_accuracy"] == pytest.approx(np.mean(np.array(found) > 0))
    assert all(
        row["kept"] == (row["margin"] >= about["threshold"])
        for row in pq.read_table(config.run / "screening.parquet").to_pylist()
    )


@pytest.mark.parametrize("by", ["classifier", "encoder", "prompts"])
def test_images_of_another_class_are_dropped(tmp_path, by):
    # The fake generator's patterns have nothing to do with their class: most are placed in another.
    config = toy_run(tmp_path, plan={"per_class": 12}, screening={"by": by}, training={"steps": 12, "seeds": 1})
    generate(config)
    dropped = screened_out(load_experiment(config))
    table = pq.read_table(config.run / "screening.parquet").to_pylist()
    assert len(table) == 72
    assert dropped == tuple(row["key"] for row in table if not row["kept"])
    assert 0 < len(dropped) < 72
    written = (config.run / "screening.json").stat().st_mtime_ns
    assert screened_out(load_experiment(config)) == dropped
    assert (config.run / "screening.json").stat().st_mtime_ns == written
    cards = train(config)
    assert [card.synthetic_images + card.screened_out for card in cards] == [0, 36, 36]
    assert sum(card.screened_out for card in cards) == len(dropped)


drawn = st.lists(st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 0.5, 3.0]), st.sampled_from("ab")), max_size=12)


@settings(max_examples=80, deadline=None)
@given(drawn, st.integers(0, 4), st.integers(0, 4))
def test_the_most_useful_are_those_of_a_slow_search(images, a, b):
    wanted = {"a": a, "b": b}
    kept = most_useful(torch.tensor([margin for margin, _ in images]), [group for _, group in images], wanted).tolist()
    for group, count in wanted.items():
        left = [place for place, (_, own) in enumerate(images) if own == group]
        expected = set()
        while left and len(expected) < count:
            right = [place for place in left if images[place][0] > 0]
            if right:
                best = min(right, key=lambda place: (images[place][0], place))
            else:
                best = max(left, key=lambda place: (images[place][0], -place))
            left.remove(best)
            expected.add(best)
        assert {place for place, (_, own) in enumerate(images) if own == group and kept[place]} == expected


@pytest.mark.parametrize("by", ["classifier", "encoder"])
def test_of_an_oversampled_plan_as_many_are_kept_as_were_asked_for(tmp_path, by):
    config = toy_run(
        tmp_path,
        data={"validation": None},
        plan={"fill_to": 14, "per_class": None, "oversample": 2},
        screening={"by": by},
        training={"steps": 3, "seeds": 1},
    )
    generate(config)
    dropped = set(screened_out(load_experiment(config)))
    table = pq.read_table(config.run / "screening.parquet").to_pylist()
    for recipe in ("text", "mixup"):
        for class_id, count in zip("abc", (12, 8, 6), strict=True):
            start, end = f"{class_id}/", f"/{recipe}"
            own = [row for row in table if row["key"].startswith(start) and row["key"].endswith(end)]
            assert len(own) == 2 * (14 - count)
            kept = [row["margin"] for row in own if row["kept"]]
            cut = [row["margin"] for row in own if not row["kept"]]
            assert len(kept) == 14 - count
            if any(margin > 0 for margin in cut):
                assert min(kept) > 0 and max(kept) <= min(margin for margin in cut if margin > 0)
    assert dropped == {row["key"] for row in table if not row["kept"]}
    assert json.loads((config.run / "screening.json").read_text())["threshold"] is None
    cards = train(config)
    assert [card.synthetic_images for card in cards] == [0, 16, 16]


def test_an_oversampled_plan_takes_a_judge_and_whole_arms(tmp_path):
    with pytest.raises(ConfigError, match=r"plan\.oversample needs a judge of real images"):
        toy_run(tmp_path, plan={"oversample": 2}, screening={"by": "prompts"})
    arms = [{"name": "few", "recipe": "text", "per_class": 2}]
    with pytest.raises(ConfigError, match="arm 'few' takes the first per_class images of each class"):
        toy_run(tmp_path, plan={"oversample": 2}, screening={"by": "encoder"}, training={"arms": arms})


def test_arms_of_several_recipes_are_not_oversampled(tmp_path):
    arms = [{"name": "both", "recipe": ["text", "mixup"]}]
    with pytest.raises(ConfigError, match="arm 'both' takes every 2"):
        toy_run(tmp_path, plan={"oversample": 2}, screening={"by": "encoder"}, training={"arms": arms})


def test_what_was_dropped_is_given_to_nobody_unless_asked_for(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, plan={"oversample": 2}, screening={"by": "encoder"})
    generate(config)
    folder = RunFolder(config.run)
    for give in (lambda: export_run(folder, tmp_path / "out", "imagefolder"), lambda: prepare_push(folder, "me/mine")):
        with pytest.raises(RunError, match=r"was not screened since .* \(no screening\.json\)"):
            give()
    assert export_run(folder, tmp_path / "all", "imagefolder", screening="all") == 24
    dropped = set(screened_out(load_experiment(config)))
    assert len(dropped) == 12 and export_run(folder, tmp_path / "kept", "imagefolder") == 12
    assert not dropped & set(pq.read_table(tmp_path / "kept" / "metadata.parquet")["key"].to_pylist())
    ready = prepare_push(folder, "me/mine")
    assert (ready.left_out.rejected, ready.left_out.screened) == (0, 12)
    assert "12 that screening dropped" in (ready.folder / "README.md").read_text(encoding="utf-8")
    sent = pq.read_table(ready.folder / "data")["key"].to_pylist()
    assert len(sent) == 12 and not dropped & set(sent)
    with pytest.raises(ConfigError, match="expected kept or all"):
        export_run(folder, tmp_path / "out", "imagefolder", screening="some")


def test_a_run_may_grow_by_oversampling(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"})
    generate(config)
    before = shard_bytes(config.run)
    more = toy_run(tmp_path, conditioning={"recipe": "text"}, plan={"oversample": 2}, screening={"by": "encoder"})
    generate(more)
    assert before.items() <= shard_bytes(config.run).items()
    assert len(screened_out(load_experiment(more))) == 12


def test_screening_needs_real_validation_images(tmp_path):
    generate(toy_run(tmp_path, data={"validation": None}))
    config = toy_run(tmp_path, screening={"by": "encoder"}, data={"validation": None})
    with pytest.raises(ConfigError, match=r"data\.validation is not set"):
        screened_out(load_experiment(config))
    leaky = toy_run(tmp_path, screening={"by": "encoder"}, leaks=["best-epoch"])
    with pytest.raises(LeakError):
        screened_out(load_experiment(leaky))


def test_arms_of_real_images_need_no_screening(tmp_path):
    arms = [{"name": "real-only"}]
    config = toy_run(tmp_path, screening={"by": "encoder"}, training={"arms": arms, "seeds": 1, "steps": 2})
    assert len(run(config).arms) == 1


def test_class_prompts_meet_images_in_the_built_in_checkpoint(tmp_path):
    config = toy_run(tmp_path, data={"source": "builtin", "path": None, "validation": None, "test": None})
    generator = load_generator(GeneratorConfig(model=config.generator.model, steps=config.generator.steps))
    listing = list_builtin("validation")
    chosen = range(0, len(listing.keys), 5)
    views = []
    for place in chosen:
        with Image.open(io.BytesIO(listing.reader.read(listing.keys[place]))) as image:
            views.append(generator.view(image.convert("RGB")))
    images = torch.nn.functional.normalize(generator.encode_images(torch.stack(views)), dim=1)
    prompts = generator.embed_prompts([f"a photo of a {name}" for name in listing.class_names])
    right = (images @ torch.nn.functional.normalize(prompts, dim=1).T).argmax(dim=1)
    assert (right == torch.tensor(listing.labels)[list(chosen)]).float().mean() > 0.7


def test_without_a_common_space_class_prompts_are_refused(tmp_path):
    config = toy_run(tmp_path).generator
    folder = save_tiny_stable_unclip(tmp_path / "tiny")
    generator = load_generator(GeneratorConfig(model=str(folder), steps=config.steps))
    with pytest.raises(ConfigError, match="no projection of its text encoder"):
        generator.embed_prompts(["a photo of a cat"])


def test_other_validation_images_give_another_threshold(tmp_path):
    config = toy_run(tmp_path, screening={"by": "encoder"})
    generate(config)
    screened_out(load_experiment(config))
    before = json.loads((config.run / "screening.json").read_text())
    shutil.rmtree(tmp_path / "validation")
    write_colours(tmp_path / "validation", 5, seed=7)
    screened_out(load_experiment(config))
    after = json.loads((config.run / "screening.json").read_text())
    assert after["fingerprint"] != before["fingerprint"]
    assert after["threshold"] != before["threshold"]
    # The encoder does not care how classifiers are trained.
    longer = toy_run(tmp_path, screening={"by": "encoder"}, training={"steps": 9})
    screened_out(load_experiment(longer))
    assert json.loads((config.run / "screening.json").read_text()) == after
