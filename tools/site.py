"""Hooks of MkDocs (mkdocs.yml): pages that are made of the code, and pages that no list names.

The reference of the config is made of its models, that of the command line by Typer, that of the API of the stub that
lists the public names; so none of them can lag behind. A page in docs/ that mkdocs.yml does not name goes under How-to.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo

from augcond import registry
from augcond.config import RunConfig
from augcond.config.base import Section, sections_in, setting_of

ROOT = Path(__file__).parents[1]
DECIDES = {
    "real": "the real images",
    "images": "the generated images",
    "kept": "which generated images are kept",
    "models": "the models",
    "judgement": "how models are judged",
    "nothing": "how it is computed, not what",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that mkdocs.yml does not name at the end of its section How-to."""
    named = json.dumps(config.nav)
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    (how_to,) = (section["How-to"] for section in config.nav or () if "How-to" in section)
    how_to.extend(page for page in pages if f'"{page}"' not in named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of the code."""
    for name, text in (("config", config_page()), ("cli", cli_page()), ("api", api_page())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def config_page() -> str:
    """Return the reference of every key, in the order of the models."""
    lines = [
        "# Config keys",
        "",
        "A config is a YAML file; `--set section.key=value` goes before it. Every key but `data` and `run` has a",
        "default. What a key decides says which commands begin anew when it changes",
        "([architecture](../architecture.md#what-a-key-decides)).",
        "",
    ]
    top = [key for key, field in RunConfig.model_fields.items() if not _sections(field.annotation)]
    lines += ["## Top level", "", *_keys(RunConfig, "", only=top)]
    for key, field in RunConfig.model_fields.items():
        for section in _sections(field.annotation):
            lines += [f"## {key}", "", *_section(section, f"{key}.")]
    lines += ["## generator.own", "", "Keys that one family of generators has; `generator.name` says which.", ""]
    for name in sorted(registry.generators.names()):
        settings = registry.generators.load(name).settings
        if settings.model_fields:
            lines += [f"### {name}", "", *_section(settings, "generator.own.")]
    return "\n".join(lines)


def _section(section: type[Section], path: str) -> Iterator[str]:
    yield from (_text(section.purpose), "")
    yield from _keys(section, path)


def _keys(section: type[Section], path: str, only: list[str] | None = None) -> Iterator[str]:
    schema = section.model_json_schema()
    for key, field in section.model_fields.items():
        if only is not None and key not in only:
            continue
        inner = _sections(field.annotation)
        about = schema["properties"][key]
        decides = "" if inner else f" · decides {DECIDES[str(setting_of(section, key).decides)]}"
        kind = "a section" if inner else _words(about, schema)
        yield from (f"#### `{path}{key}`", "")
        yield from (f"{kind}{'' if inner else ', ' + _default(field)}{decides}", "")
        yield from (_text(field.description or inner[0].purpose), "")
        # The keys of arms.overrides are those of training.
        for each in inner:
            yield from _keys(each, f"{path}{key}.")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory_takes_validated_data:
        return "default by other keys"
    return f"default `{_value(field.get_default(call_default_factory=True))}`"


def _sections(annotation: Any) -> list[type[Section]]:
    return [found for found in sections_in(annotation) if found is not Section]


def _words(about: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what a fragment of a JSON schema allows, in words."""
    if "$ref" in about:
        return _words(schema["$defs"][about["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_words(each, schema) for each in about["anyOf"]))
    if "enum" in about or "const" in about:
        return ", ".join(f"`{_value(value)}`" for value in about.get("enum", [about.get("const")]))
    bounds = [f"{sign} {about[name]:g}" for name, sign in _BOUNDS.items() if name in about]
    items = "" if "items" not in about else f" of {_words(about['items'], schema)}"
    name = {"null": "null", "string": "text", "boolean": "true or false", "array": "a list", "object": "a mapping"}
    found = "a path" if about.get("format") == "path" else name.get(about.get("type", "object"), str(about.get("type")))
    return f"{found}{items}{' ' + ' and '.join(bounds) if bounds else ''}"


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _value(value: Any) -> str:
    if isinstance(value, Section):
        return json.dumps(value.model_dump(mode="json"))
    return json.dumps(value, default=str) if not isinstance(value, str) else value or '""'


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def cli_page() -> str:
    """Return the reference of every command, as Typer writes it."""
    import typer.main
    from typer.cli import get_docs_for_click

    from augcond.cli import app

    command = typer.main.get_command(app)
    context = command.make_context("augcond", [], resilient_parsing=True)
    return get_docs_for_click(obj=command, ctx=context, name="augcond", title="Commands")


def api_page() -> str:
    """Return a page that mkdocstrings fills: every public name, from where the stub says; the stages first."""
    lines = ["# Python API", "", "Import it from `augcond`: the names below are its public ones.", ""]
    tree = ast.parse((ROOT / "src/augcond/__init__.pyi").read_text(encoding="utf-8"))
    stubs = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    for node in sorted(stubs, key=lambda node: node.module != "pipeline"):
        for alias in node.names:
            lines += [f"::: augcond.{node.module}.{alias.name}", ""]
            if alias.name == "RunConfig":
                lines[-1:] = ["    options: {members: false}", "", "Its keys: [config keys](config.md).", ""]
    about = "From `augcond.torch`, which imports PyTorch ([how](../own-training.md))."
    lines += ["## In training scripts", "", about, ""]
    for name in ("RunDataset", "RealDataset", "MixedBatchSampler"):
        lines += [f"::: augcond.torch.{name}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)
