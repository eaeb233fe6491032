"""What all arms of a run share: the split, the images, and the guards that they passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from augcond.config.base import counted, uncounted
from augcond.datasets import load_dataset
from augcond.datasets.benchmarks import BENCHMARK_NAMES
from augcond.datasets.loading import load_held_out
from augcond.datasets.protocol import HonestProtocol, protocol_of
from augcond.datasets.splits import draw_split, settle_split, subset
from augcond.errors import ConfigError, RunMismatchError
from augcond.generators import load_generator
from augcond.store import RunFolder
from augcond.store.fingerprint import as_begun, differences, with_kept_defaults
from augcond.training.arms import HeldOut, arms_of, unused_real
from augcond.training.guards import check_apart, check_look_alikes, check_sources
from augcond.training.image_sets import ImageSet
from augcond.training.synthetic import SyntheticRows, read_synthetic

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.datasets import Dataset
    from augcond.datasets.protocol import HonestProtocol, protocol_of
    from augcond.progress import Progress
from augcond.datasets.splits import Split


@dataclass(frozen=True, slots=True)
class Experiment:
    """A run that is ready to be trained on.

    Attributes:
        config: the run's.
        folder: the run's.
        pool: all labelled images.
        split: which of them are trained on.
        training: those images.
        rows: the synthetic images; None where the run was not generated.
        held_out: the real images to judge on, none of them in `training`; where there are none, the error that says so.
    """

    config: RunConfig
    folder: RunFolder
    pool: Dataset
    split: Split
    training: Dataset
    rows: SyntheticRows | None
    held_out: Mapping[HeldOut, Dataset | ConfigError]

    def held_out_images(self, on: HeldOut) -> Dataset:
        """Return the real images of `on`.

        Raises:
            ConfigError: the config names none.
        """
        found = self.held_out[on]
        if isinstance(found, ConfigError):
            raise found
        return found

    @property
    def protocol(self) -> HonestProtocol[ImageSet]:
        """Which of its images each stage may see."""
        return protocol_of(self.config)

    @property
    def max_bytes(self) -> float:
        """So many bytes of decoded images are held in memory."""
        return self.config.training.max_memory_gb * 1e9


def load_experiment(config: RunConfig, progress: Progress | None = None) -> Experiment:
    """Return the run's images after every guard has passed them; `progress` is told how many are read.

    Raises:
        LeakError: a synthetic image's source is no training image, or an image is in two of the sets that training,
            validation and test are.
        RunMismatchError: the run has another split, or images of other settings.
        RunError: the run is not generated to the end.
        DatasetError: the real images cannot be used.
    """
    folder = RunFolder(config.run)
    folder.create()
    if folder.config_path.exists():
        config = with_kept_defaults(config, folder.read_config())
    cache = folder.decoded_path()
    # What was decoded before is read in no time.
    pool = load_dataset(config.data, cache=cache, progress=None if cache.exists() else progress)
    split = settle_split(folder.split_path, draw_split(config, pool))
    training = subset(pool, split.train)
    rows = None
    if folder.plan_path.exists():
        _check_generated(config, folder)
        rows = read_synthetic(folder)
    if rows is not None:
        hashes = {key: sha256 for key, (_, sha256) in folder.read_sources().items()}
        check_sources(zip(rows.keys, rows.sources, strict=True), protocol_of(config).sources(pool, training), hashes)
    held_out: dict[HeldOut, Dataset | ConfigError] = {}
    for on in get_args(HeldOut):
        try:
            # Test sets can have tens of thousands of images, and every command looks at them.
            images = load_held_out(config.data, on, pool, split, cache=folder.decoded_path(on))
        except ConfigError as error:
            held_out[on] = error
        else:
            held_out[on] = images
    _check_held_out(config, _trained_on(config, pool, split, training), held_out)
    return Experiment(config, folder, pool, split, training, rows, held_out)


def _check_generated(config: RunConfig, folder: RunFolder) -> None:
    """Refuse a config that describes other synthetic images than those that the run holds.

    Raises:
        RunMismatchError: naming what differs.
    """
    recorded = folder.read_plan().settings
    made, config = (as_begun(each, recorded) for each in (folder.read_config(), config))
    found = [*differences(_images_of(made), _images_of(config))]
    found += [f"conditioning.recipe: the run has no {recipe!r}" for recipe in _missing(made, config)]
    if not found and uncounted(made.generator, "images") != uncounted(config.generator, "images"):
        # Weights count by what they are: they may lie elsewhere now.
        identity = asdict(load_generator(config.generator).identity)
        weights = {key: recorded["generator"][key] for key in identity}
        found += differences({"generator": weights}, {"generator": identity})
    if found:
        raise RunMismatchError(
            f"the images in {folder.path} are not those of this config ({'; '.join(found)}): generate these in another "
            "folder, or leave the settings of the images as they are"
        )


def _images_of(config: RunConfig) -> dict[str, Any]:
    """Return the settings that say which images are made, but what says itself: recipes, weights, real images."""
    plan, conditioning = config.plan, config.conditioning
    return {
        "plan": counted(plan, "images") | uncounted(plan, "images"),
        "conditioning": counted(conditioning, "images"),
        "prompt": list(config.prompt),
        "generator": counted(config.generator, "images"),
        "output": counted(config.output, "images"),
    }


def _missing(made: RunConfig, asked: RunConfig) -> list[str]:
    return [recipe for recipe in asked.conditioning.recipe_names if recipe not in made.conditioning.recipe_names]


def _trained_on(config: RunConfig, pool: Dataset, split: Split, training: Dataset) -> Dataset:
    """Return all real images that some arm is trained on: those of the split, and those that a ceiling adds."""
    added = {
        key
        for arm in arms_of(config)
        if arm.kind == "ceiling"
        for key in unused_real(config, pool, split, training, arm.per_class)
    }
    return subset(pool, [*split.train, *sorted(added)]) if added else training


def _check_held_out(config: RunConfig, trained_on: Dataset, held_out: Mapping[HeldOut, Dataset | ConfigError]) -> None:
    """Refuse held-out images that are trained on, and test images that are validation images too.

    Raises:
        LeakError: naming the first such image.
    """
    official = config.data.source in BENCHMARK_NAMES
    images = {on: found for on, found in held_out.items() if not isinstance(found, ConfigError)}
    for on, found in images.items():
        check_apart(trained_on, found, on, official=official)
    if "test" in images:
        _check_looks(config, trained_on, images["test"])
    if len(images) == 2:
        check_apart(images["validation"], images["test"], "test", of="validation", official=official)


def check_test_images(config: RunConfig, pool: Dataset, split: Split, sources: Dataset) -> None:
    """Refuse test images of `data.test` that are sources, whatever they are stored as, before these are made use of.

    Raises:
        LeakError: naming the first such image.
        DatasetError: the test images cannot be used.
    """
    if config.data.test is None or config.leaks:
        return
    test = load_held_out(config.data, "test", pool, split, cache=RunFolder(config.run).decoded_path("test"))
    check_apart(sources, test, "test", official=config.data.source in BENCHMARK_NAMES)
    _check_looks(config, sources, test)


def _check_looks(config: RunConfig, trained_on: Dataset, test: Dataset) -> None:
    wanted = config.data.near_duplicates
    if wanted != "ignore":
        check_look_alikes(trained_on, test, refuse=wanted == "refuse", official=config.data.source in BENCHMARK_NAMES)


def evaluation_images(experiment: Experiment, on: HeldOut = "test") -> Dataset:
    """Return the images that results are measured on, by the protocol of the run.

    Args:
        experiment: the run.
        on: `test`; or `validation`, to choose on.

    Raises:
        ConfigError: the config names no such images.
    """
    return experiment.protocol.held_out(experiment.pool, lambda: experiment.held_out_images(on))
