"""Prompts: words that tell the classes apart and that the text encoder reads to the end. None of it stops a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augcond.checks.look import Look, Problem, tried
from augcond.config.run import names_class
from augcond.datasets.suspicions import suspicious_names
from augcond.errors import AugcondError
from augcond.generators import find_family, toy_warning
from augcond.generators.loading import WeightsOrigin, cached_file, find_pipeline

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.datasets import Dataset
    from augcond.generators import NeededWeights


def generation_warnings(config: RunConfig, dataset: Dataset) -> list[str]:
    """Return what should be looked at before images are made of `dataset`, for commands that have decoded it."""
    toy = toy_warning(config.generator, config.data.source)
    named = prompt_warnings(config, list(dataset.classes), list(dataset.drawn_names))
    return [*([f"generator.model: {toy}"] if toy else []), *named]


def check_toy(look: Look) -> Iterator[Problem]:
    """The built-in model, which knows its own world alone."""
    warning = tried(partial(toy_warning, look.config.generator, look.config.data.source))
    if look.uses_generator and isinstance(warning, str):
        yield Problem("generator.model", warning)


def check_prompts(look: Look) -> Iterator[Problem]:
    """What prompts call the classes."""
    if "generate" not in look.work or isinstance(look.real, AugcondError) or isinstance(look.amounts, AugcondError):
        return
    pool = look.real.pool
    asked = [label for label, amount in enumerate(look.amounts) if amount]
    classes, names = [pool.classes[label] for label in asked], [pool.drawn_names[label] for label in asked]
    for detail in prompt_warnings(look.config, classes, names):
        yield Problem("prompt", detail)


def prompt_warnings(config: RunConfig, classes: list[str], names: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield what is wrong with the prompts of classes; nothing for a generator that takes none.

    Args:
        config: its templates and its generator.
        classes: ids of the classes that get images.
        names: what prompts call each of them, one or several names.
    """
    family = tried(partial(find_family, config.generator.name))
    if isinstance(family, AugcondError) or (family.inputs is not None and "text" not in family.inputs):
        return
    if config.data.source != "builtin":  # whose `t-shirt` is a word
        yield from suspicious_names(classes, ["|".join(several) for several in names])
    nameless = [template for template in config.prompt if not names_class(template)]
    if nameless and len(classes) > 1:
        yield f"the prompt {nameless[0]!r} is the same for every class: write {{class_name}} where the class belongs"
    for weights in family.weights(config.generator):
        tokenizer = _tokenizer_folder(weights, config.generator.name)
        if tokenizer is not None:
            yield from _cut_prompts(config.prompt, [name for several in names for name in several], tokenizer)


def _tokenizer_folder(weights: NeededWeights, name: str) -> Path | None:
    """Return where a checkpoint's tokenizer lies on this machine; None where it does not, or there is none."""
    if weights.layout is None:
        return None
    origin = WeightsOrigin(weights.model, weights.revision, name, weights.key.removesuffix(".model"))
    folder = tried(partial(find_pipeline, origin, weights.layout))
    if isinstance(folder, AugcondError):
        return None
    if folder is None:
        cached = cached_file(weights.model, f"{weights.layout.prompts}/{_CONFIG}", weights.revision)
        return None if cached is None else cached.parent
    tokenizer = folder / weights.layout.prompts
    return tokenizer if (tokenizer / _CONFIG).is_file() else None


_CONFIG = "tokenizer_config.json"


def _cut_prompts(templates: tuple[str, ...], class_names: list[str], folder: Path) -> Iterator[str]:
    try:
        limit = int(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_max_length"])
        prompts = {template.format(class_name=name): name for name in class_names for template in templates}
        # No token is shorter than a byte, and at most two mark start and end: most prompts need no tokenizer.
        long = [prompt for prompt in prompts if len(prompt.encode()) > limit - 2]
        ends = _ends(long, folder, limit) if long else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # what is wrong with a checkpoint is said when it is loaded
    if not ends:
        return
    lost = [prompt for prompt, end in ends.items() if prompt.rfind(prompts[prompt]) + len(prompts[prompt]) > end]
    prompt = next(iter(lost or ends))
    yield (
        f"{len(ends):,} of {len(prompts):,} prompts are longer than the {limit} tokens that the text encoder reads; of "
        f"{_shortened(prompt)} it ignores {_shortened(prompt[ends[prompt] :].strip())}"
        + (f". In {len(lost):,} of them that is the class name, or a part of it: put it first" if lost else "")
    )


def _ends(prompts: list[str], folder: Path, limit: int) -> dict[str, int]:
    """Return where the text encoder stops to read, of those prompts that it does not read to the end."""
    tokenizer = _load_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch(prompts)
    # The last place is that of the end mark.
    return {
        prompt: found.offsets[limit - 2][1]
        for prompt, found in zip(prompts, encoded, strict=True)
        if len(found) > limit
    }


def _load_tokenizer(folder: Path) -> Any:
    file = folder / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))
    from transformers import CLIPTokenizerFast

    return CLIPTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:60]} ... {text[-35:]}")
