import pytest
import torch

from augcond.config import GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators import load_generator
from augcond.generators.devices import (
    Offloading,
    execution_device,
    out_of_memory_errors,
    resolve_device,
    resolve_dtype,
    upcast,
)


def test_auto_is_half_precision_on_cuda_only():
    config = GeneratorConfig()
    assert resolve_dtype(config, torch.device("cuda")) == torch.float16
    assert resolve_dtype(config, torch.device("mps")) == torch.float32
    assert resolve_dtype(config, torch.device("cpu")) == torch.float32
    assert resolve_dtype(GeneratorConfig(dtype="bfloat16"), torch.device("cpu")) == torch.bfloat16


def test_devices(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    with pytest.raises(ConfigError, match=r"generator\.device: 'gpu'"):
        resolve_device("gpu")


def test_upcast_restores_the_very_same_weights():
    module = torch.nn.Linear(3, 3).to(torch.bfloat16)
    before = module.weight.clone()
    with torch.inference_mode(), pytest.raises(KeyError), upcast(module):
        assert module.weight.dtype == torch.float32
        raise KeyError
    assert torch.equal(module.weight, before)
    assert not module.weight.is_inference()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), torch.OutOfMemoryError),
        (RuntimeError("MPS backend out of memory"), torch.OutOfMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("shapes do not match"), RuntimeError),
        (ValueError("out of memory"), ValueError),
    ],
)
def test_every_way_to_run_out_of_memory(raised, expected):
    with pytest.raises(expected) as caught, out_of_memory_errors():
        raise raised
    assert type(caught.value) is expected


def test_offloaded_networks_are_on_the_device_one_at_a_time(monkeypatch):
    moved = []
    to = torch.nn.Module.to
    names = {}

    def recorded(module, *args):
        if module in names and args[0] != torch.device("cpu"):  # where an offloaded network waits
            moved.append((names[module], str(args[0])))
        return to(module, "cpu", *args[1:])

    monkeypatch.setattr(torch.nn.Module, "to", recorded)
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    names |= {first: "first", second: "second"}
    offloading = Offloading(torch.device("cuda", 1))
    monkeypatch.setattr("accelerate.utils.send_to_device", lambda values, device: values)
    expected = [network(torch.ones(1, 3)) for network in (first, second)]
    for network in (first, second):
        offloading.add(network, torch.float32)
        assert execution_device(network) == torch.device("cuda", 1)
    with torch.inference_mode():
        made = [network(torch.ones(1, 3)) for network in (first, first, second, first)]
    assert moved == [
        ("first", "cuda:1"),
        ("first", "cpu"),
        ("second", "cuda:1"),
        ("second", "cpu"),
        ("first", "cuda:1"),
    ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[2], expected[1])
    assert torch.equal(made[3], expected[0])
    assert not first.weight.is_inference()
    assert execution_device(torch.ones(1)) == torch.device("cpu")  # of what has a device and waits nowhere


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"generator\.memory: offload lets networks wait in the CPU's memory, which is all that cpu has"),
        ({"compile": True}, r"generator\.memory: offload does not go with generator\.compile"),
        ({"cache": {"interval": 2}}, r"generator\.memory: offload does not go with generator\.cache"),
        ({"name": "fake"}, r"generator\.memory: fake takes no offloading"),
    ],
)
def test_offloading_is_refused_where_it_saves_nothing(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_generator(GeneratorConfig(device="cpu", memory="offload", **settings))
