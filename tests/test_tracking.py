"""Trackers: what TensorBoard's own reader finds, and what happens where a tracker is missing or fails."""

from __future__ import annotations

import logging

import pytest

from augcond import tracking
from augcond.config import parse_config
from augcond.errors import MissingExtraError
from augcond.pipeline import evaluate, generate, run, train
from augcond.progress import NoProgress
from augcond.tracking import FOLDER, Tracking, current, tracked
from tests.training.toys import toy_run


def toy(root, **sections):
    return toy_run(root, training={"steps": 3, "seeds": 1}, plan={"per_class": 1}, **sections)


@tracked
def stages(config):
    generate(config)
    train(config)
    return evaluate(config)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What TensorBoard's reader finds of stages within a stage."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'augcond[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = toy(tmp_path_factory.mktemp("tracked"), tracking="tensorboard")
    results = stages(config)
    events = EventAccumulator(str(config.run / FOLDER / "tensorboard"))
    events.Reload()
    return config, results, events


def last(events, name):
    return events.Scalars(name)[-1].value


def test_losses_accuracies_and_counts_arrive(found):
    _, results, events = found
    names = set(events.Tags()["scalars"])
    arms = [arm.name for arm in results.arms]
    assert {f"loss/{arm}/seed-0" for arm in arms} <= names
    assert [event.step for event in events.Scalars(f"loss/{arms[0]}/seed-0")] == [1, 2, 3]
    for arm in results.arms:
        assert last(events, f"test/{arm.name}/overall") == pytest.approx(arm.mean.overall)
    planned = results.arms[1].synthetic_images * (len(arms) - 1)
    assert last(events, "generation/ok") == planned == last(events, "generation/attempted")
    assert last(events, "generation/failed") == 0
    assert last(events, "generation/images_per_second") > 0


def test_a_sheet_of_images_and_the_table_arrive(found):
    _, results, events = found
    (sheet,) = events.Images("generation/samples")
    assert sheet.width > 100
    (name,) = (name for name in events.Tags()["tensors"] if name.startswith("test/results"))
    text = events.Tensors(name)[0].tensor_proto.string_val[0].decode()
    assert all(f"| {arm.name} |" in text for arm in results.arms)


def test_nobody_is_told_anything_afterwards(found):
    assert not current().asks


def test_a_run_without_trackers_writes_nothing_of_the_kind(tmp_path):
    config = toy(tmp_path, conditioning={"recipe": "text"})
    generate(config)
    assert not (config.run / FOLDER).exists()


def test_a_tracker_that_is_not_installed_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    config = toy(tmp_path, tracking=["wandb", "tensorboard"])
    said = r"tracking: wandb is not installed: pip install 'augcond\[wandb\]'"
    for stage in (generate, train, evaluate, run):
        with pytest.raises(MissingExtraError, match=said):
            stage(config)
    assert not config.run.exists()


class Failing:
    def __init__(self):
        self.heard = []

    def numbers(self, values, step):
        self.heard.append((values, step))
        raise ConnectionError("the server is away")

    def finish(self):
        self.heard.append("finish")


def test_a_tracker_that_fails_is_told_nothing_more_and_ends_no_work(tmp_path, monkeypatch, caplog):
    trackers = {"wandb": Failing(), "mlflow": Failing()}
    trackers["mlflow"].numbers = lambda values, step: trackers["mlflow"].heard.append((values, step))
    for name, tracker in trackers.items():
        monkeypatch.setitem(tracking._TRACKERS, name, lambda config, stage, tracker=tracker: tracker)
    config = parse_config({"data": {"path": tmp_path}, "run": tmp_path / "run", "tracking": ["wandb", "mlflow"]})
    told = Tracking(config, "train")
    with caplog.at_level(logging.WARNING):
        told.numbers({"loss": 0.5, "few": None, "gap": float("nan")}, 3)
        told.numbers({"loss": 0.4}, 4)
        told.finish()
    assert trackers["wandb"].heard == [({"loss": 0.5}, 3)]
    assert trackers["mlflow"].heard == [({"loss": 0.5}, 3), ({"loss": 0.4}, 4), "finish"]
    assert "wandb is told nothing more (ConnectionError: the server is away)" in caplog.text


def test_the_rate_is_that_of_all_rows(tmp_path, monkeypatch):
    heard = []
    now = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Tracking, "numbers", lambda self, values, step: heard.append((values, step)))
    config = parse_config({"data": {"path": tmp_path}, "run": tmp_path / "run", "tracking": "mlflow"})
    progress = Tracking(config, "generate").progress(NoProgress())
    progress.start(30)
    for now[0], made, failed in ((1.0, 5, 0), (20.0, 5, 2), (25.0, 5, 0), (60.0, 15, 1)):
        progress.advance(made, failed)
    assert [(step, values["generation/failed"], values["generation/images_per_second"]) for values, step in heard] == [
        (10, 2, 0.5),
        (30, 3, 0.5),
    ]
