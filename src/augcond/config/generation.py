"""The sections of a config that say what is generated, with what, and how the work is cut."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from augcond.config.base import NOTHING, AtLeastOne, Count, OneOrMore, RecipeName, Section, Setting, Share

_IDENTITY = Setting(counted=False)
"""Which weights: they count by what they are (`GeneratorIdentity`), not by where they lie."""
_CHECKPOINT = Setting(counted=False, path="checkpoint")
_ROWS = Setting(counted=False)
"""Which images there are: each counts by its own row of the plan."""


class PlanConfig(Section, decides="images"):
    """How many images to make for which class."""

    per_class: Annotated[Count | dict[str, Count] | None, _ROWS] = None
    """The same number for every class, or a mapping from class id to number (other classes get none)."""
    fill_to: Annotated[AtLeastOne | None, _ROWS] = None
    """As many as make real + synthetic equal this number."""
    seed: Annotated[Count, Setting(swept=False)] = 0

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


class ConditioningConfig(Section, decides="images"):
    """Which recipes, and their parameters; docs/conditioning.md has the maths."""

    recipe: Annotated[tuple[RecipeName, ...], OneOrMore, Field(min_length=1), _ROWS] = ("embed-mixup-dropout",)
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


class AdapterConfig(Section, decides="images"):
    """Which IP-Adapter conditions Stable Diffusion on images, and how strongly."""

    model: Annotated[str, _CHECKPOINT] = "h94/IP-Adapter"
    """A hub id or a local folder."""
    revision: Annotated[str | None, _IDENTITY] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    weights: str | None = None
    """The adapter's safetensors file in there; where null, the base adapter that goes with the generator."""
    image_encoder: str | None = None
    """The folder of its CLIP vision model in there; where null, the one that goes with the weights."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the image beside the prompt; 1 is as trained."""


class PriorConfig(Section, decides="images"):
    """Where Kandinsky's image encoder is: in the repository of its prior."""

    model: Annotated[str, _CHECKPOINT] = "kandinsky-community/kandinsky-2-2-prior"
    """A hub id or a local folder."""
    revision: Annotated[str | None, _IDENTITY] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""


class GeneratorConfig(Section, decides="images"):
    """Which pretrained generator, and how it samples."""

    name: Annotated[str, _IDENTITY] = "stable-unclip"
    """See `augcond.generators.generator_names()`."""
    model: Annotated[str, _CHECKPOINT] = "builtin"
    """`builtin`, a local folder, or a hub id such as sd2-community/stable-diffusion-2-1-unclip."""
    revision: Annotated[str | None, _IDENTITY] = None
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
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], NOTHING] = "auto"
    """auto: float16 on CUDA, float32 elsewhere."""
    device: Annotated[str, NOTHING] = "auto"
    compile: Annotated[bool, NOTHING] = False
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


class OutputConfig(Section, decides="images"):
    """How generated images are stored."""

    format: Literal["auto", "png", "webp", "jpeg"] = "auto"
    """auto: lossless png up to 64 pixels, webp above."""
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    size: Annotated[int, Field(ge=8)] | None = None
    """Edge length at which to store; as generated where null."""


class EngineConfig(Section):
    """How the work is cut and run; no setting here changes which images are meant."""

    name: Literal["local"] = "local"
    max_failed_share: Share = 0.5
    """A shard in which a larger share of rows failed is kept, and stops the job with an error."""
    shard_size: Annotated[int, Field(ge=1)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 16
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per worker for PyTorch on a CPU; all cores where null."""
