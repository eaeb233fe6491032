"""Protocols by name: presets of a config's sections. What the config spells itself goes before them.

`docs/protocols.md` says why each setting is what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from augcond.config.training import LeakName, ProtocolName
from augcond.errors import ConfigError

_WORLD_HEAD = 200  # images per class in the built-in world's pool


def with_protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, the nested keys of a config, with what their `protocol` sets and they do not spell.

    Raises:
        ConfigError: the protocol needs a setting that has no good default for this data.
    """
    name = values.get("protocol")
    if name not in get_args(ProtocolName):
        return dict(values)  # None, or wrong: validation says so
    data = values.get("data")
    builtin = isinstance(data, Mapping) and data.get("source") == "builtin"
    preset = _long_tail(builtin) if name == "long-tail" else _few_shot(builtin)
    if name == "published":
        preset = _merged(preset, {"leaks": list(get_args(LeakName)), "training": {"mix": "bernoulli"}})
    plan = values.get("plan")
    if isinstance(plan, Mapping) and {"per_class", "fill_to"} & set(plan):
        preset.pop("plan", None)
    elif "plan" not in preset:
        raise ConfigError(
            f"protocol {name!r} needs plan.fill_to: the number that real and synthetic images of a class add up to "
            "(ImageNet-LT: 1280)"
        )
    split = data.get("split") if isinstance(data, Mapping) else None
    preset_split = preset.get("data", {}).get("split")
    if isinstance(split, Mapping) and preset_split and split.get("name", preset_split["name"]) != preset_split["name"]:
        preset.pop("data")
    return _merged(preset, values)


def _long_tail(builtin: bool) -> dict[str, Any]:
    preset: dict[str, Any] = {
        "training": {
            "mode": "scratch",
            "loss": "balanced-softmax",
            "counts": "real",
            "mix": "exact",
            "synthetic_share": 0.5,
        }
    }
    if builtin:
        # Other data comes with a tail of its own, such as ImageNet-LT's.
        preset["data"] = {"split": {"name": "long-tail", "imbalance": 100, "head": _WORLD_HEAD}}
        preset["plan"] = {"fill_to": _WORLD_HEAD}
    else:
        # As published for ImageNet-LT, but for the steps: 150 passes over its synthetic images are 680,000.
        preset["training"] |= {
            "model": "resnext50_32x4d",
            "optimizer": "momentum",
            "lr": 0.2,
            "weight_decay": 5e-4,
            "decay": "all",
            "batch_size": 512,
            "steps": 100_000,
            "checkpoint_every": 5_000,
            "augment": {
                "crop": "photo",
                "scale": [0.08, 1.0],
                "transforms": [{"name": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4}],
            },
        }
    return preset


def _few_shot(builtin: bool) -> dict[str, Any]:
    training: dict[str, Any] = {"loss": "cross-entropy", "mix": "exact", "synthetic_share": 0.5}
    if builtin:
        training |= {"model": "small-cnn", "mode": "scratch"}
    else:
        training |= {
            "model": "resnet50",
            "mode": "linear-probe",
            "weights": "hub",
            "optimizer": "adam",
            "lr": 1e-4,
            "weight_decay": 0.0,
            "schedule": "constant",
            "steps": 10_000,
            "batch_size": 32,
            "views": "fresh",
            "standardise": False,
            "augment": {"crop": "none", "transforms": [{"name": "RandomRotation", "degrees": 15}]},
        }
    return {"data": {"split": {"name": "few-shot", "k": 4}}, "plan": {"per_class": 16}, "training": training}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with everything that `over` holds in its place, section by section."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
