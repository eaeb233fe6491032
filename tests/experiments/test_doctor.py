"""The doctor finds what is wrong with a machine, a generator or a file system, and leaves nothing behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import augcond.experiments.doctor as doctor
from augcond.cli import app
from augcond.config import parse_config
from augcond.experiments.doctor import CHECKS, Check, disk, generator, machine, together
from augcond.experiments.doctor.findings import Subject
from augcond.generators import Generated
from augcond.testing import FakeGenerator

DOING = "tests.experiments.doctoring"


def config_in(folder: Path, **sections):
    values = {"data": {"source": "builtin"}, "generator": {"name": "fake"}, "engine": {"batch_size": 4}}
    return parse_config({**values, "run": folder / "runs" / "mine", **sections})


def subject_in(folder: Path, **sections):
    return Subject(config_in(folder, **sections), folder, folder)


def doctor_command(folder, *words):
    (folder / "c.yaml").write_text(
        "data: {source: builtin}\nrun: run\ngenerator: {name: fake, model: max_batch=3}\nengine: {batch_size: 4}\n"
    )
    result = CliRunner().invoke(app, ["doctor", str(folder / "c.yaml"), *words], catch_exceptions=False)
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]
    return result


def test_one_check_that_goes_wrong_ends_no_other(tmp_path, monkeypatch):
    checks = (
        Check("before", f"{DOING}:looks"),
        Check("still", f"{DOING}:looks"),
        Check("raising", f"{DOING}:raises", advice="do this"),
        Check("killed", f"{DOING}:dies", matters=lambda config: False),
        Check("without", f"{DOING}:looks", needs="killed"),
        Check("hanging", f"{DOING}:hangs"),
        Check("after", f"{DOING}:looks"),
    )
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setattr(doctor.examine, "__defaults__", (None, 3.0))
    result = doctor_command(tmp_path, "--json")
    printed = json.loads(result.stdout)
    found = {entry["check"]: entry for entry in printed["checks"]}
    assert [entry["status"] for entry in found.values()] == [
        *("ok", "ok", "failed", "failed", "not possible here", "failed", "ok")
    ]
    assert found["before"]["measured"] == found["still"]["measured"] != found["after"]["measured"]
    assert Path(found["after"]["detail"]).parent == tmp_path  # the run folder is not there yet
    assert (found["raising"]["detail"], found["raising"]["advice"]) == ("ValueError: a library said so", "do this")
    assert "killed by SIGKILL: out of memory" in found["killed"]["detail"]
    assert "killed                 failed, and does not matter: the process" in result.stderr
    assert (result.exit_code, printed["sound"]) == (1, False)
    monkeypatch.setattr(doctor, "CHECKS", checks[3:4])
    assert doctor_command(tmp_path).exit_code == 0


@pytest.mark.slow
def test_the_command_tries_everything(tmp_path):
    found = json.loads(doctor_command(tmp_path, "--json").stdout)
    statuses = {entry["check"]: entry["status"] for entry in found["checks"]}
    assert list(statuses) == [check.name for check in CHECKS]
    # The generator takes three rows at most, and the config says four.
    assert (found["sound"], statuses.pop("images per second")) == (False, "failed")
    assert statuses.pop("out of memory") == "failed"
    assert "failed" not in statuses.values()
    rate = next(entry for entry in found["checks"] if entry["check"] == "images per second")
    assert "set engine.batch_size: 2" in rate["advice"]
    workers = next(entry for entry in found["checks"] if entry["check"] == "workers")
    assert workers["measured"]["workers"] == max(1, torch.cuda.device_count())


class Sharing(FakeGenerator):
    """Its rows see the first of their batch."""

    def generate(self, conditioning, seeds):
        made = super().generate(conditioning, seeds)
        return Generated(((made.images.int() + 2 * made.images[:1].int()) // 3).to(torch.uint8), made.errors)


class Drawing(FakeGenerator):
    """Its rows draw from what the process shares."""

    def generate(self, conditioning, seeds):
        made = super().generate(conditioning, seeds)
        return Generated(made.images ^ torch.randint(0, 2, made.images.shape).to(torch.uint8), made.errors)


def test_rows_that_depend_on_others_are_found(tmp_path, monkeypatch):
    assert generator.look_at_rows(subject_in(tmp_path)).status == "ok"
    for kind, words in ((Sharing, "levels with its batch"), (Drawing, "made twice has other bytes")):
        monkeypatch.setattr(generator, "load_generator", lambda config, kind=kind: kind())
        found = generator.look_at_rows(subject_in(tmp_path))
        assert (found.status, words in found.detail) == ("failed", True)


@pytest.mark.slow
def test_a_row_that_is_not_finite_is_made_again(tmp_path, monkeypatch):
    settings = {"steps": 2, "device": "cpu"}
    full = subject_in(tmp_path, generator=settings)
    assert "runs in float32" in generator.look_at_second_try(full).detail
    half = subject_in(tmp_path, generator=settings | {"dtype": "bfloat16"})
    found = generator.look_at_second_try(half)
    assert found.status == "ok" and 0 < found.measured["levels"] < 20
    # Without the second try the row stays as it is.
    monkeypatch.setattr(type(half.bench.materials.generator), "_retry", lambda *_: (torch.zeros(3, 32, 32), "lost"))
    with pytest.raises(Exception, match="an image could not be made: lost"):
        generator.look_at_second_try(half)
    assert generator.look_at_second_try(subject_in(tmp_path)).status == "not possible here"


@pytest.mark.slow
def test_processes_that_take_a_mean_together(tmp_path, monkeypatch):
    assert together.look_at_training(subject_in(tmp_path)).status == "not possible here"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert together.mean_over(2) == ""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "none")
    assert "Error" in together.mean_over(2)


def test_batches_that_do_not_fit_are_halved(tmp_path, monkeypatch):
    found = generator.look_at_memory(subject_in(tmp_path))
    assert (found.status, found.measured["halved_to"]) == ("ok", 2)
    monkeypatch.setattr(generator.BatchSize, "halve", lambda self: setattr(self, "current", self.current // 2))
    assert generator.look_at_memory(subject_in(tmp_path)).status == "failed"


def test_weights_that_are_not_here_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "load_generator", lambda config: pytest.fail("it would be fetched"))
    found = generator.look_at_generator(subject_in(tmp_path, generator={"model": "nobody/none"}))
    assert found.status == "not possible here"
    assert "hf download nobody/none" in found.advice


def test_a_file_system_whose_flock_fails_or_locks_nobody_out(tmp_path, monkeypatch):
    subject = subject_in(tmp_path)
    assert disk.look_at_flock(subject).status == "ok"
    for code in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):

        def fails(descriptor, operation, code=code):
            raise OSError(code, "no locks")

        monkeypatch.setattr(fcntl, "flock", fails)
        found = disk.look_at_flock(subject)
        assert (found.status, errno.errorcode[code] in found.detail) == ("failed", True)
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    assert disk.look_at_flock(subject).detail == "flock says yes to two processes at once"


def test_a_file_system_that_replaces_or_creates_badly(tmp_path, monkeypatch):
    for look in (disk.look_at_folder, disk.look_at_renames, disk.look_at_publishing):
        assert look(subject_in(tmp_path)).status == "ok"

    def copy(self, target):
        target.unlink(missing_ok=True)
        for data in (b"half", self.read_bytes()):
            target.write_bytes(data)

    monkeypatch.setattr(Path, "replace", copy)
    assert "while a file was replaced" in disk.look_at_renames(subject_in(tmp_path)).detail
    monkeypatch.undo()

    def no_links(temporary, path):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "without").mkdir()
    found = disk.look_at_publishing(subject_in(tmp_path / "without"))
    assert (found.status, found.measured["links"]) == ("ok", False)
    monkeypatch.setattr(os, "O_EXCL", 0)
    (tmp_path / "again").mkdir()
    assert "not published by exactly one" in disk.look_at_publishing(subject_in(tmp_path / "again")).detail
    nowhere = Subject(config_in(tmp_path), Path("/proc"), None)
    with pytest.raises(PermissionError, match="no folder can be made there"):
        disk.look_at_folder(nowhere)
    assert disk.mounted(Path("/proc"))[0] == "proc"


def test_workers_go_by_devices_memory_and_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(machine, "memory", lambda: (2**40, 2**40))
    monkeypatch.setattr(machine, "available_cores", lambda: 32)
    found = machine.propose_workers(subject_in(tmp_path))
    assert (found.status, found.measured["workers"], found.measured["cores_each"]) == ("ok", 8, 4)
    monkeypatch.setattr(machine, "available_cores", lambda: 8)
    assert "give the job 16 cores" in machine.propose_workers(subject_in(tmp_path)).advice
    monkeypatch.setattr(machine, "memory", lambda: (2**33, 2**33))
    found = machine.propose_workers(subject_in(tmp_path, engine={"max_memory_gb": 3}))
    assert found.status == "failed" and f"else set engine.workers: {found.measured['workers']}" in found.advice
    assert 1 <= found.measured["workers"] < 8


def test_a_gpu_that_pytorch_does_not_see_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia_driver", lambda: "580.1")
    found = machine.look_at_devices(subject_in(tmp_path))
    assert found.status == "failed" and found.advice.startswith("install the PyTorch build")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.look_at_devices(subject_in(tmp_path)).status == "not possible here"
    assert machine._deviation(torch.device("cpu")) < 0.01


def test_control_groups_limit_the_memory(monkeypatch):
    free, (total, _) = 10**9, machine.memory()
    monkeypatch.setattr(machine, "_groups", lambda: iter([(2 * free, free)]))
    assert machine.memory() == (min(total, 2 * free), free)
    assert doctor.PATIENCE > 600
