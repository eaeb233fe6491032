"""The sections of a config that say what is generated, with what, and how the work is cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from augcond import registry
from augcond.config.base import (
    NOTHING,
    AtLeastOne,
    Count,
    OneOrMore,
    Section,
    Setting,
    Share,
    WrongSection,
    find_named,
)
from augcond.errors import AugcondError

_IDENTITY = Setting(by="contents")
"""Which weights: they count by what they are (`GeneratorIdentity`), not by where they lie."""
_CHECKPOINT = Setting(by="contents", path="checkpoint")
_ROWS = Setting(by="each")
"""Which images there are: each counts by its own row of the plan."""


class PlanConfig(Section, decides="images"):
    """How many images to make for which class."""

    per_class: Annotated[Count | dict[str, Count] | None, _ROWS] = None
    """The same number for every class, or a mapping from class id to number (other classes get none)."""
    fill_to: Annotated[AtLeastOne | None, _ROWS] = None
    """As many as make real + synthetic equal this number."""
    oversample: Annotated[AtLeastOne, Setting(by="each", neutral=1)] = 1
    """Make so many times as many, of which screening keeps as many as were asked for: per class, those that its judge
    finds right, the least certain first."""
    rounds: Annotated[Path | None, Setting(by="each", path="path", neutral=None, swept=False)] = None
    """A file of further images that were chosen class by class, as `augcond.experiments.rounds` writes it; each row
    counts by the sources that it got."""
    seed: Annotated[Count, Setting(swept=False)] = 0
    """Of everything that is drawn for the images: sources, lambdas, boxes, noise."""

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
        if self.rounds is not None and self.oversample > 1:
            raise ValueError("rounds choose what is made, oversample what is kept of it: leave one of them out")
        return self


class ConditioningConfig(Section, decides="images"):
    """Which recipes, and their parameters; docs/conditioning.md has the maths."""

    recipe: Annotated[tuple[str, ...], OneOrMore, Field(min_length=1), _ROWS] = ("embed-mixup-dropout",)
    """One recipe or several; with several, each class gets its number of images of each. A recipe of one's own is
    `module:object`, and called by what follows the colon."""
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
    neighbours: Annotated[AtLeastOne | None, Setting(by="each", neutral=None)] = None
    """Mix a source with some of so many that are nearest to it in the image encoder's space; null: with any. Each row
    counts by the sources that it got."""
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
    def _known(cls, recipe: tuple[str, ...]) -> tuple[str, ...]:
        if len({registry.short_name(name) for name in recipe}) != len(recipe):
            raise ValueError("name each recipe once")
        for name in recipe:
            if name not in registry.recipes:
                own, short = find_named(registry.recipes, name), registry.short_name(name)
                if short in registry.recipes and registry.recipes.load(short) is not own:
                    raise ValueError(f"{name!r} would be called {short!r}, as another recipe is: rename it")
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

    @property
    def recipe_names(self) -> tuple[str, ...]:
        """What the recipes are called in keys, shards, tables and folders."""
        return tuple(registry.short_name(name) for name in self.recipe)


class CacheConfig(Section, decides="images"):
    """Keep deep features from one step to the next, and compute the other layers only (arXiv 2312.00858)."""

    interval: Annotated[int, Field(ge=1)] = 3
    """Every so many steps everything is computed; 1: at every step, as without a cache."""
    branch: Annotated[int, Field(ge=0)] = 0
    """Up to which skip connection a UNet's outer layers are computed at every step, or up to which block a
    transformer's first ones; 0: the outermost, the first alone, the fastest."""


class LoraConfig(Section, decides="images"):
    """A low-rank change of the weights: a style, a domain, or a way to sample in few steps."""

    model: Annotated[str, _CHECKPOINT]
    """A hub id or a local folder."""
    weights: str = "pytorch_lora_weights.safetensors"
    """The safetensors file in there."""
    revision: Annotated[str | None, _IDENTITY] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    scale: float = 1.0
    """How strongly it counts: 1 as trained, 0 not at all."""


def default_steps(values: Mapping[str, Any]) -> int:
    """Return how many denoising steps a generator takes whose config, as far as it is validated, says nothing."""
    builtin = values.get("name") == "stable-unclip" and values.get("model") == "builtin"
    return 5 if builtin else 20


class GeneratorConfig(Section, decides="images"):
    """Which pretrained generator, and how it samples."""

    name: Annotated[str, _IDENTITY] = "stable-unclip"
    """A family, as `augcond generators` lists them, or `module:object` of one's own."""
    model: Annotated[str, _CHECKPOINT] = "builtin"
    """`builtin`, a local folder, or a hub id such as sd2-community/stable-diffusion-2-1-unclip."""
    revision: Annotated[str | None, _IDENTITY] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    guidance_scale: Annotated[float, Field(ge=0)] = 3.0
    """Classifier-free guidance; 1: none."""
    guidance_interval: tuple[Share, Share] = (0.0, 1.0)
    """Part of the denoising, from start 0 to end 1, in which guidance is applied (arXiv 2404.07724)."""
    away_from: Annotated[Literal["similar-class"] | None, Setting(neutral=None)] = None
    """What guidance leads away from, where an image conditions: no image (null), or the mean embedding of the training
    images of the most similar other class (arXiv 2509.22635)."""
    steps: Annotated[int, Field(ge=1, le=1000)] = Field(default_factory=lambda values: default_steps(values))
    """Denoising steps; 5 by default of the built-in model (docs/performance.md says why), 20 of any other."""
    scheduler: str = "dpmsolver++"
    """ddim, dpmsolver++, euler, pndm, ... (some with -karras), or the class name of any diffusers scheduler;
    `default`: the model's own."""
    cache: Annotated[CacheConfig | None, Setting(neutral=None)] = None
    """Compute deep features every few steps only; null: at every step."""
    lora: Annotated[tuple[LoraConfig, ...], Setting(neutral=[])] = ()
    """LoRAs that are merged into the weights, of Stable Diffusion and SDXL."""
    vae: Annotated[str | None, Setting(by="contents", path="checkpoint", neutral=None)] = None
    """Another autoencoder: `tiny` for the tiny one of this family, a local folder, or a hub id, with @ and a revision
    behind it where it is to be another than the newest; the checkpoint's own where null."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Edge length at which to generate; the model's own where null."""
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], NOTHING] = "auto"
    """auto: on CUDA float16, or bfloat16 where the family was made for it; float32 elsewhere."""
    device: Annotated[str, NOTHING] = "auto"
    """auto: a GPU where there is one; or what PyTorch calls it, such as cpu or cuda:1."""
    memory: Annotated[Literal["offload"] | None, Setting("nothing", neutral=None)] = None
    """offload: networks wait in the CPU's memory for their turn on the GPU, which need hold one at a time; null: all
    of them stay on the GPU."""
    compile: Annotated[bool | Literal["auto"], NOTHING] = False
    """Compile the denoiser as it is first called; auto: where the images that are planned are worth the time."""
    own: SerializeAsAny[Section] = Section()
    """Settings that only this family has; docs/generators.md has them, and those of a family of one's own are its
    own."""

    @classmethod
    def inner(cls, key: str, values: Mapping[str, Any]) -> type[Section] | None:
        """Return the section that `key` holds: for `own` the settings of the family that `name` names."""
        if key != "own":
            return super().inner(key, values)
        try:
            return _settings_of(registry.generators.load(values.get("name", cls.model_fields["name"].default)))
        except (AugcondError, TypeError):
            return None  # a wrong name is reported where it is validated

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        find_named(registry.generators, name)
        return name

    @field_validator("own", mode="before")
    @classmethod
    def _of_the_family(cls, value: Any, info: ValidationInfo) -> Section:
        if "name" not in info.data:
            return Section()  # the name is wrong, and reported
        kind = _settings_of(registry.generators.load(info.data["name"]))
        if isinstance(value, kind):
            return value
        if value is None or type(value) is Section:
            return kind()
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise WrongSection(kind, error) from error

    @field_validator("cache")
    @classmethod
    def _of_use(cls, cache: CacheConfig | None) -> CacheConfig | None:
        # Images are the same, so they are one run.
        return None if cache is not None and cache.interval == 1 else cache

    @field_validator("guidance_interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] > interval[1]:
            raise ValueError("the interval's start lies after its end")
        return interval

    @model_validator(mode="after")
    def _guided(self) -> Self:
        if self.away_from is not None and self.guidance_scale <= 1:
            raise ValueError("away_from needs guidance, so a guidance_scale above 1")
        return self


class OutputConfig(Section, decides="images"):
    """How generated images are stored."""

    format: Literal["auto", "png", "webp", "jpeg"] = "auto"
    """auto: lossless png up to 64 pixels, jpeg above (docs/performance.md has bytes, time and what a network thinks of
    it); a run that was begun when it stood for webp goes on with it."""
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Of jpeg and webp."""
    effort: Annotated[Annotated[int, Field(ge=0, le=6)] | None, Setting(neutral=4)] = None
    """Of the webp encoder, 0 to 6; where null 2, which takes half the time of 4 at the same size and nearly the same
    quality, and in a run that was begun with another what it was begun with."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Edge length at which to store; as generated where null."""


class EngineConfig(Section):
    """How the work is cut and run; no setting here changes which images are meant."""

    name: str = "local"
    """What runs the shards, or `module:object` of one's own."""
    address: str | None = None
    """Where engine.name: ray finds its cluster: `auto` (this machine belongs to it), `HOST:6379`, `ray://HOST:10001` or
    `local` (one is started here for as long); null: RAY_ADDRESS, or the cluster of this machine, or a local one."""
    max_failed_share: Share = 0.5
    """A shard in which a larger share of rows failed is kept, and stops the job with an error."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes on this machine that make shards; auto: one per CUDA device that CUDA_VISIBLE_DEVICES shows, one on a
    CPU; with engine.name: ray, one per GPU of the cluster. One is this very process; of several, those that die are
    started again."""
    shard_size: Annotated[int, Field(ge=1)] = 256
    """Images of a shard: what a worker claims, and what is lost at most where one is stopped; fixed with the plan."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Images that are made at once; halved by itself where memory does not suffice."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per worker for PyTorch on a CPU; cores / workers where null, as settled with the plan of the run."""
    feeding_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per worker that decode and prepare sources and encode images; cores / workers, up to 8, where null."""
    max_memory_gb: Annotated[float, Field(ge=0)] = 1.0
    """Of decoded sources that a worker keeps for the rows that use them next."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            registry.engines.check(name)
        except AugcondError as error:
            raise ValueError(str(error).removeprefix("engine.name: ")) from error
        return name


def _settings_of(family: Any) -> type[Section]:
    """Return the class of a family's own settings; a plain callable that loads a generator has none."""
    kind = getattr(family, "settings", None)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else Section
