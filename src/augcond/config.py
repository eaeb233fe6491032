"""The configuration of one run: every key, its default, and what is allowed.

A config is a YAML file; `--set key=value` overrides single keys. Unknown keys and wrong values are errors that
name the key. Relative paths are relative to the config file.
"""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from augcond.config_base import OneOrMore, RecipeName, Share
from augcond.config_base import Section as _Section
from augcond.config_data import DataConfig, HuggingFaceConfig, WebDatasetConfig
from augcond.config_protocols import with_protocol
from augcond.config_training import (
    EvaluationConfig,
    LeakName,
    ProtocolName,
    ScreeningConfig,
    SplitConfig,
    TrainingConfig,
)
from augcond.errors import ConfigError

__all__ = [
    "AdapterConfig",
    "ConditioningConfig",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "GeneratorConfig",
    "HuggingFaceConfig",
    "LeakName",
    "OutputConfig",
    "PlanConfig",
    "PriorConfig",
    "RecipeName",
    "RunConfig",
    "ScreeningConfig",
    "SplitConfig",
    "TrainingConfig",
    "WebDatasetConfig",
    "load_config",
    "parse_config",
    "relative_paths",
]


class PlanConfig(_Section):
    """How many images to make for which class."""

    per_class: Annotated[int, Field(ge=0)] | dict[str, Annotated[int, Field(ge=0)]] | None = None
    """The same number for every class, or a mapping from class id to number (other classes get none)."""
    fill_to: Annotated[int, Field(ge=1)] | None = None
    """As many as make real + synthetic equal this number."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _default_amount(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("per_class") is None and data.get("fill_to") is None:
            return {**data, "per_class": 16}
        return data

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.per_class is not None and self.fill_to is not None:
            raise ValueError("give per_class or fill_to, not both")
        return self


class ConditioningConfig(_Section):
    """Which recipes, and their parameters; docs/conditioning.md has the maths."""

    recipe: Annotated[tuple[RecipeName, ...], OneOrMore, Field(min_length=1)] = ("embed-mixup-dropout",)
    """One recipe or several; with several, each class gets its number of images of each."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """lambda ~ Beta(alpha, alpha); weights ~ Dirichlet(alpha, ...) for more than two sources."""
    dropout: Share = 0.4
    """Probability p that a feature of the embedding is set to 0."""
    rescale: bool = False
    """Divide what dropout keeps by 1 - p."""
    strength: Annotated[float, Field(gt=0, le=1)] = 0.5
    """real-guidance: share of the denoising that is done, from the source noised to where that share begins."""
    mix_probability: Share = 1.0
    """Probability that a mixing recipe mixes; otherwise the row is conditioned on its first source alone."""
    sources: Annotated[int, Field(ge=2, le=16)] = 2
    """How many images a mixup is made of."""
    interpolation: Literal["linear", "slerp"] = "linear"
    """How embed-mixup interpolates; slerp goes along the sphere and takes two sources."""
    crop_scale: tuple[Share, Share] = (0.08, 1.0)
    """Share of the area that a random resized crop keeps, lowest and highest."""
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Aspect ratio of a random resized crop, lowest and highest."""
    augment: tuple[dict[str, Any], ...] = ()
    """torchvision v2 transforms on each source before encoding, such as
    [{name: RandomHorizontalFlip}, {name: ColorJitter, brightness: 0.4}]."""

    @field_validator("recipe")
    @classmethod
    def _distinct(cls, recipe: tuple[RecipeName, ...]) -> tuple[RecipeName, ...]:
        if len(set(recipe)) != len(recipe):
            raise ValueError("name each recipe once")
        return recipe

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rescale and self.dropout == 1.0:
            raise ValueError("rescale needs dropout < 1")
        if self.sources > 2 and self.interpolation == "slerp":
            raise ValueError("slerp takes two sources")
        for low, high in (self.crop_scale, self.crop_ratio):
            if low > high:
                raise ValueError(f"the lowest value {low} lies above the highest {high}")
        return self


class AdapterConfig(_Section):
    """Which IP-Adapter conditions Stable Diffusion on images, and how strongly."""

    model: str = "h94/IP-Adapter"
    """A hub id or a local folder."""
    revision: str | None = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    weights: str | None = None
    """The adapter's safetensors file in there; where null, the base adapter that goes with the generator."""
    image_encoder: str | None = None
    """The folder of its CLIP vision model in there; where null, the one that goes with the weights."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the image beside the prompt; 1 is as trained."""


class PriorConfig(_Section):
    """Where Kandinsky's image encoder is: in the repository of its prior."""

    model: str = "kandinsky-community/kandinsky-2-2-prior"
    """A hub id or a local folder."""
    revision: str | None = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""


class GeneratorConfig(_Section):
    """Which pretrained generator, and how it samples."""

    name: str = "stable-unclip"
    """See `augcond.generators.generator_names()`."""
    model: str = "builtin"
    """`builtin`, a local folder, or a hub id such as sd2-community/stable-diffusion-2-1-unclip."""
    revision: str | None = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    guidance_scale: Annotated[float, Field(ge=0)] = 3.0
    guidance_interval: tuple[Share, Share] = (0.0, 1.0)
    """Part of the denoising, from start 0 to end 1, in which guidance is applied (arXiv 2404.07724)."""
    negative_prompt: str = ""
    noise_level: Annotated[int, Field(ge=0, le=999)] = 0
    """Noise added to the image embedding, as a step of its own noise schedule."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    scheduler: str = "dpmsolver++"
    """ddim, dpmsolver++, euler, pndm, ... (some with -karras), or the class name of any diffusers scheduler;
    `default`: the model's own."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Edge length at which to generate; the model's own where null."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: float16 on CUDA, float32 elsewhere."""
    device: str = "auto"
    compile: bool = False
    published_dropout: bool = False
    """Let dropout mask the noise-level half of unCLIP's vector too, as the published scripts do."""
    adapter: AdapterConfig | None = None
    """For ip-adapter and ip-adapter-xl; the base adapter of h94/IP-Adapter where null."""
    prior: PriorConfig | None = None
    """For kandinsky-2.2; the published prior where null."""

    @field_validator("guidance_interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] > interval[1]:
            raise ValueError("the interval's start lies after its end")
        return interval


class OutputConfig(_Section):
    """How generated images are stored."""

    format: Literal["auto", "png", "webp", "jpeg"] = "auto"
    """auto: lossless png up to 64 pixels, webp above."""
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    size: Annotated[int, Field(ge=8)] | None = None
    """Edge length at which to store; as generated where null."""


class EngineConfig(_Section):
    """How the work is cut and run; no setting here changes which images are meant."""

    name: Literal["local"] = "local"
    max_failed_share: Share = 0.5
    """A shard in which a larger share of rows failed is kept, and stops the job with an error."""
    shard_size: Annotated[int, Field(ge=1)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 16
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per worker for PyTorch on a CPU; all cores where null."""


class RunConfig(_Section):
    """Everything that defines one run."""

    data: DataConfig
    run: Path
    protocol: ProtocolName | None = None
    """A preset of the sections below; what the config spells itself goes before it."""
    leaks: tuple[LeakName, ...] = ()
    """Leaks of published scripts to reproduce, for comparison only: results are marked leaky."""
    plan: PlanConfig = PlanConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    prompt: Annotated[tuple[str, ...], OneOrMore, Field(min_length=1)] = ("a photo of a {class_name}",)
    """One template or several (one is drawn per image); {class_name} is filled in."""
    generator: GeneratorConfig = GeneratorConfig()
    output: OutputConfig = OutputConfig()
    engine: EngineConfig = EngineConfig()
    training: TrainingConfig = TrainingConfig()
    screening: ScreeningConfig = ScreeningConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("prompt")
    @classmethod
    def _templates_format(cls, prompt: tuple[str, ...]) -> tuple[str, ...]:
        for template in prompt:
            try:
                template.format(class_name="x")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"template {template!r} may hold no braces but {{class_name}}") from error
        return prompt


_PATH_KEYS = (
    *(("data", "path"), ("data", "validation"), ("data", "test"), ("data", "class_names"), ("run",)),
    *(("generator", "model"), ("generator", "adapter", "model"), ("generator", "prior", "model")),
    ("training", "weights"),
)
"""Every key that holds a path, or may: a model can also be `builtin` or a hub id, weights can be `hub`."""


def load_config(path: Path | str, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a YAML config and apply `key=value` overrides, dotted keys, YAML values.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; all wrong keys are listed.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys such as `data:` and `run:`")
    return parse_config(values, overrides, base=path.parent, origin=str(path))


def parse_config(
    values: dict[str, Any], overrides: tuple[str, ...] = (), *, base: Path | None = None, origin: str = "config"
) -> RunConfig:
    """Return the config that nested `values` and `overrides` stand for.

    Args:
        values: nested keys as in the YAML file; not changed.
        overrides: `dotted.key=value` texts; values are YAML. Paths in them are relative to the working directory.
        base: the folder that relative paths of `values` are relative to; the working directory where None.
        origin: how error messages call the config.

    Raises:
        ConfigError: a key or value is wrong; all wrong keys are listed.
    """
    values = _absolute_paths(values, base or Path.cwd())
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r}: expected key=value, such as generator.steps=20")
        _set(values, key.strip().split("."), _yaml_value(override, text))
    values = _absolute_paths(values, Path.cwd())
    values = with_protocol(values)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}:\n" + "\n".join(_explain(error))) from None


def _yaml_value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = values.get(key)
        values[key] = dict(child) if isinstance(child, dict) else {}
        values = values[key]
    values[keys[-1]] = value


def relative_paths(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return the nested plain `values` of a config with the paths in them relative to the folder `base`."""
    values = copy.deepcopy(values)
    for section, key in _paths_in(values):
        relative = os.path.relpath(section[key], base)
        # A model without a leading dot would be a hub id.
        section[key] = relative if relative.startswith(".") else f"./{relative}"
    return values


def _absolute_paths(values: dict[str, Any], base: Path) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for section, key in _paths_in(values):
        path = base / Path(section[key]).expanduser()
        section[key] = str(path.resolve()) if key in ("model", "weights") else path
    return values


def _paths_in(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the section and the key of every path in nested `values`, which may hold anything."""
    for *parents, key in _PATH_KEYS:
        section: Any = values
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and _is_path(key, section.get(key)):
            yield section, key


def _is_path(key: str, value: Any) -> bool:
    if key == "model":
        return isinstance(value, str) and value.startswith((".", "~", "/"))
    return isinstance(value, str | Path) and (key, value) != ("weights", "hub")


def _explain(error: ValidationError) -> list[str]:
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        location = problem["loc"]
        if problem["type"] == "extra_forbidden":
            key = ".".join(map(str, location))
            allowed = sorted(_section_at(tuple(map(str, location[:-1]))).model_fields)
            near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            message = f"unknown key{hint} (allowed: {', '.join(allowed)})"
        else:
            # Unions add the tried type to the location; only keys that a user could write are shown.
            key = ".".join(str(part) for part in location if part in _ALL_KEYS) or "config"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "missing":
                message += f" (got {_shorten(problem['input'])})"
        messages.setdefault(key, []).append(message)
    return [f"  {key}: {'; or '.join(dict.fromkeys(texts))}" for key, texts in messages.items()]


def _section_at(location: tuple[str, ...]) -> type[BaseModel]:
    section: type[BaseModel] = RunConfig
    for key in location:
        field = section.model_fields.get(key)
        section = next(iter(_sections_in(field.annotation)), section) if field else section
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type such as `SplitConfig | None` may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def _keys_of(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        for child in _sections_in(field.annotation):
            yield from _keys_of(child)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_ALL_KEYS = set(_keys_of(RunConfig))
