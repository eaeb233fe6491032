"""The configuration of one run: every key, its default, and what is allowed.

A config is a YAML file; `--set key=value` overrides single keys. Unknown keys and wrong values are errors that
name the key. Relative paths are relative to the config file.
"""

from augcond.config.base import Section, Setting
from augcond.config.data import DataConfig, HuggingFaceConfig, WebDatasetConfig
from augcond.config.generation import (
    ConditioningConfig,
    EngineConfig,
    GeneratorConfig,
    OutputConfig,
    PlanConfig,
)
from augcond.config.loading import kept_text, load_config, load_kept_config, parse_config, relative_paths
from augcond.config.run import RunConfig
from augcond.config.training import EvaluationConfig, LeakName, ScreeningConfig, SplitConfig, TrainingConfig

__all__ = [
    "ConditioningConfig",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "GeneratorConfig",
    "HuggingFaceConfig",
    "LeakName",
    "OutputConfig",
    "PlanConfig",
    "RunConfig",
    "ScreeningConfig",
    "Section",
    "Setting",
    "SplitConfig",
    "TrainingConfig",
    "WebDatasetConfig",
    "kept_text",
    "load_config",
    "load_kept_config",
    "parse_config",
    "relative_paths",
]
