"""Names to objects, imported only when asked for: generator families, recipes, data set readers, engines.

A name in a config is one of augcond's own, one that a script registered, one that an installed package offers as an
entry point, or itself `module:object`. This module knows where things are, not what they are: it imports none of them.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from augcond.errors import AugcondError, ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z]\w*")


class Registry:
    """Names of one kind, each with the `module:object` that it stands for.

    Args:
        kind: what the names stand for, such as `recipe`, for messages.
        key: the key of the config that holds such a name, for messages.
        group: the entry point group in which installed packages offer more of the kind.
        built_in: augcond's own names and their targets. A target that is a mapping holds the object under its name.
    """

    def __init__(self, kind: str, key: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind = kind
        self.key = key
        self.group = group
        self._targets = dict(built_in)

    def register(self, name: str, target: str) -> None:
        """Let `name` stand for `target`, a `module:object` that is imported at first use.

        Raises:
            ConfigError: the name is taken by another target, or one of the two is malformed.
        """
        if not _TARGET.fullmatch(target):
            raise ConfigError(f"{self.kind} {name!r}: target {target!r} must read module:object")
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{self.kind} {name!r}: a name has letters, digits, and . _ + - between them")
        known = self._targets.setdefault(name, target)
        if known != target:
            raise ConfigError(
                f"{self.kind} {name!r} is already registered as {known}; choose another name than for {target}"
            )

    def names(self) -> tuple[str, ...]:
        """Return augcond's own names in their order, then registered ones, then those of installed packages."""
        return tuple(dict.fromkeys((*self._targets, *sorted(self._installed))))

    def __contains__(self, name: str) -> bool:
        """Tell whether `name` is a known name, without importing anything; a `module:object` is none."""
        return name in self._targets or name in self._installed

    def check(self, name: str) -> None:
        """Check that there is something of this name, as far as that shows without importing anything.

        Raises:
            ConfigError: there is not.
        """
        if ":" in name and not _TARGET.fullmatch(name):
            raise ConfigError(f"{self.key}: {name!r} must read module:object, such as my_module:mine")
        if ":" not in name and name not in self:
            known = self.names()
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"{self.key}: no {self.kind} {name!r}; {hint}known: {', '.join(known)}, and module:object for one of "
                "your own"
            )

    def load(self, name: str) -> Any:
        """Return what `name` stands for.

        Raises:
            ConfigError: there is nothing of this name, or it cannot be imported.
        """
        self.check(name)
        if ":" in name:
            return self._own(name)
        target = self._targets.get(name)
        found = self._import(name, target, "") if target is not None else self._from_package(name)
        return found[name] if isinstance(found, Mapping) else found

    def _own(self, name: str) -> Any:
        folder = _untrusted_place(name.partition(":")[0])
        if folder is not None:
            raise ConfigError(
                f"{self.key}: {name!r} lies in the run folder {folder}, and no code of a run is run: put the module "
                "beside the config that you start, or install it"
            )
        return self._import(
            name, name, "; the module must be installed, or lie in the working directory or beside the config"
        )

    def _from_package(self, name: str) -> Any:
        offers = self._installed[name]
        packages = [_package(entry) for entry in offers]
        if len(offers) > 1:
            raise ConfigError(
                f"{self.key}: {name!r} is offered by several installed packages ({', '.join(packages)}): name the one "
                f"you mean as module:object, such as {offers[0].value}"
            )
        return self._import(name, offers[0].value, f"; the installed package {packages[0]} offers it, and is broken")

    def _import(self, name: str, target: str, hint: str) -> Any:
        module_name, _, attribute = target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except AugcondError:
            raise
        except Exception as error:  # a module may raise anything when it is imported
            raise ConfigError(
                f"{self.key}: {name!r}: the module {module_name!r} cannot be imported ({type(error).__name__}: {error})"
                f"{hint}"
            ) from error
        if not hasattr(module, attribute):
            near = difflib.get_close_matches(attribute, dir(module), n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            where = getattr(module, "__file__", None) or module_name
            raise ConfigError(f"{self.key}: {name!r}: {where} has no {attribute!r}{guess or hint}")
        return getattr(module, attribute)

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """Return the entry points of installed packages by name; reading them takes a while, so only at need."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found


_untrusted: set[Path] = set()


def import_nothing_from(folder: Path) -> None:
    """Refuse from now on what is named as `module:object` and lies in `folder`."""
    _untrusted.add(folder.resolve())


def _untrusted_place(module: str) -> Path | None:
    """Return the folder of `import_nothing_from` that `module` lies in; None where it is in none, or not there."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        try:
            # What is in a package is found by importing the package, which was looked at just before.
            spec = importlib.util.find_spec(".".join(parts[:depth]))
        except Exception:  # a package may raise anything when it is imported; so it will when it is asked for
            return None
        if spec is None:
            return None
        places = [
            *([spec.origin] if spec.has_location and spec.origin else []),
            *(spec.submodule_search_locations or ()),
        ]
        for folder in _untrusted:
            if any(Path(place).resolve().is_relative_to(folder) for place in places):
                return folder
    return None


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def short_name(name: str) -> str:
    """Return what stands in keys, tables and folders for a configured name: of `module:object` the object."""
    return name.rpartition(":")[2]


_RECIPES = "augcond.conditioning.recipes:RECIPES"
_ACROSS = "augcond.conditioning.recipes:ACROSS_RECIPES"

generators = Registry(
    "generator",
    "generator.name",
    "augcond.generators",
    {
        "stable-unclip": "augcond.generators.stable_unclip:FAMILY",
        "stable-diffusion": "augcond.generators.stable_diffusion:FAMILY",
        "ip-adapter": "augcond.generators.ip_adapter:FAMILY",
        "ip-adapter-xl": "augcond.generators.ip_adapter_xl:FAMILY",
        "kandinsky-2.2": "augcond.generators.kandinsky:FAMILY",
        "flux2-klein": "augcond.generators.flux2_klein:FAMILY",
        "flux-redux": "augcond.generators.flux_redux:FAMILY",
        "sd3-ip-adapter": "augcond.generators.sd3_ip_adapter:FAMILY",
        "fake": "augcond.testing.fake:FAMILY",
    },
)
"""Families of generators (`augcond.generators.base.Family`), or callables that load a generator."""

recipes = Registry(
    "recipe",
    "conditioning.recipe",
    "augcond.recipes",
    {
        "text": _RECIPES,
        "real-guidance": _RECIPES,
        "image": _RECIPES,
        "dropout": _RECIPES,
        "mixup": _RECIPES,
        "cutmix": _RECIPES,
        "embed-mixup": _RECIPES,
        "embed-cutmix": _RECIPES,
        "mixup-dropout": _RECIPES,
        "cutmix-dropout": _RECIPES,
        "embed-mixup-dropout": _RECIPES,
        "embed-cutmix-dropout": _RECIPES,
        "image-pair": _RECIPES,
        "mixup-across": _ACROSS,
        "cutmix-across": _ACROSS,
        "embed-mixup-across": _ACROSS,
        "embed-cutmix-across": _ACROSS,
        "embed-mixup-dropout-across": _ACROSS,
        "embed-cutmix-dropout-across": _ACROSS,
    },
)
"""Recipes (`augcond.conditioning.Recipe`), in the order in which they are shown."""

datasets = Registry(
    "data set reader",
    "data.source",
    "augcond.datasets",
    {
        "folder": "augcond.datasets.folder:READER",
        "list": "augcond.datasets.listfile:READER",
        "builtin": "augcond.datasets.builtin:READER",
        "huggingface": "augcond.datasets.huggingface:READER",
        "webdataset": "augcond.datasets.webdataset:READER",
        "imagenet-lt": "augcond.datasets.benchmarks.imagenet_lt:BENCHMARK",
        "places-lt": "augcond.datasets.benchmarks.places_lt:BENCHMARK",
        "pascal-voc": "augcond.datasets.benchmarks.pascal_voc:BENCHMARK",
        "coco": "augcond.datasets.benchmarks.coco:BENCHMARK",
        "caltech101": "augcond.datasets.benchmarks.caltech101:BENCHMARK",
        "flowers102": "augcond.datasets.benchmarks.flowers102:BENCHMARK",
    },
)
"""Readers of labelled images (`augcond.datasets.base.DatasetReader`), or callables that list them."""

protocols = Registry("protocol", "leaks", "augcond.protocols", {"leaky": "augcond.published.leaks:LeakyProtocol"})
"""What stages may see beside what is honest (`augcond.datasets.protocol`); a config that names leaks asks for it."""

engines = Registry(
    "engine",
    "engine.name",
    "augcond.engines",
    {"local": "augcond.engine.local:LocalEngine", "ray": "augcond.engine.ray:RayEngine"},
)
"""What runs shards (`augcond.engine.Engine`)."""
