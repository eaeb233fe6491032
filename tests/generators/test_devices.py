import pytest
import torch

from augcond.config import GeneratorConfig
from augcond.errors import ConfigError
from augcond.generators.devices import out_of_memory_errors, resolve_device, resolve_dtype, upcast


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
