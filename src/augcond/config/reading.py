"""YAML as people mean it: keys are texts and stand once, and no number is read in base 8 or 60."""

from __future__ import annotations

import re
from typing import Any

import yaml

_OTHER_BASES = re.compile(r"[-+]?0[0-7_]*[0-7]|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but for keys, dates and numbers in other bases."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                # A class may be called `no`, `010` or `1:30`.
                key.tag = "tag:yaml.org,2002:str"
                if key.value in lines:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} stands twice, first{_where(lines[key.value])}", key.start_mark
                    )
                lines[key.value] = key.start_mark
        return super().construct_mapping(node, deep)

    def construct_yaml_number(self, node: yaml.ScalarNode) -> int | float:
        number = (self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float)(node)
        if _OTHER_BASES.fullmatch(node.value) and node.value.strip("+-0_"):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"YAML reads {node.value} as {number}: write {number} if that is meant, or quote it",
                node.start_mark,
            )
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_number)


def read_yaml(text: str) -> Any:
    """Return what a YAML text holds; mappings have texts as keys.

    Raises:
        yaml.YAMLError: it is no YAML, a key stands twice, or a number is written in base 8 or 60.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _where(mark: yaml.Mark) -> str:
    return f" in line {mark.line + 1}, column {mark.column + 1}"
