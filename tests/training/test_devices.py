"""Processes, devices and precision: what is trained depends on the config, and on nothing around it."""

import socket
from datetime import timedelta

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from augcond.errors import ConfigError
from augcond.training import devices
from augcond.training.devices import Precision, find_rank
from augcond.training.loop import fit
from tests.training.toys import toy_settings, toy_task

CPU = torch.device("cpu")


def weights(**keys):
    made = toy_task(toy_settings(steps=3, **keys))
    return fit(made), made.module.state_dict()


def test_neither_the_environment_nor_another_accelerator_changes_what_is_trained(monkeypatch):
    before, own = weights()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    other = Accelerator(cpu=True)
    assert (other.gradient_accumulation_steps, other.mixed_precision) == (4, "bf16")
    after, again = weights()
    assert after.history == before.history
    assert all(torch.equal(tensor, again[name]) for name, tensor in own.items())


def test_mixed_precision_and_full_precision_in_one_process():
    (half, _), (full, _), (again, _) = (weights(precision=precision) for precision in ("bf16", "no", "bf16"))
    assert half.history == again.history != full.history
    assert half.history[-1][1] == pytest.approx(full.history[-1][1], rel=0.1)


def test_fp16_on_a_cpu_is_refused_rather_than_ignored():
    with pytest.raises(ConfigError, match=r"training\.precision: .* on a CPU: use bf16"):
        weights(precision="fp16")
    assert find_rank(toy_settings(precision="fp16")).device == CPU  # models may be judged on one


def test_gradients_are_clipped_as_they_are_not_as_they_are_scaled():
    moved = []
    for scale in (None, 1024.0):
        precision, module = Precision("no", CPU), nn.Linear(3, 1, bias=False)
        if scale is not None:
            precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        nn.init.ones_(module.weight)
        precision.step(module(torch.tensor([[3.0, 4.0, 0.0]])).sum(), module, torch.optim.SGD(module.parameters()), 1.0)
        assert module.weight.grad is None
        moved.append(module.weight.detach())
    assert torch.equal(*moved)
    assert torch.allclose(1 - moved[0], torch.tensor([[0.6, 0.8, 0.0]]) * 1e-3, rtol=1e-3)


def test_processes_that_were_started_for_gpus_do_not_train_on_the_cpu(monkeypatch):
    class Started:
        num_processes, process_index, device = 2, 1, torch.device("cuda", 1)

    monkeypatch.setattr("accelerate.PartialState", lambda cpu: Started)
    assert find_rank(toy_settings(device="auto")).device == Started.device
    with pytest.raises(ConfigError, match=r"training\.device: cpu, but the 2 processes were started for cuda"):
        find_rank(toy_settings())
    with pytest.raises(ConfigError, match=r"training\.batch_size: 9 images cannot be shared out over 2 processes"):
        find_rank(toy_settings(device="auto", batch_size=9))


def test_processes_that_do_not_come_are_not_waited_for_without_a_word(monkeypatch, caplog):
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE=2 .* RANK, MASTER_ADDR, MASTER_PORT is not set: .* or unset"):
        find_rank(toy_settings())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in (("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "_PATIENCE", timedelta(seconds=1))
    with pytest.raises(ConfigError, match=r"the others did not come to 127.* within 1 s .* --processes N"):
        find_rank(toy_settings())
    assert f"waiting for the others at 127.0.0.1:{port}" in caplog.text
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a launcher's")
    with devices._meeting(cpu=True):
        pass
