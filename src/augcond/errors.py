"""Every error augcond raises on purpose, in one tree.

    AugcondError
    ├── ConfigError            a setting, argument or config file is wrong (exit code 2)
    ├── MissingExtraError      an optional dependency is not installed (exit code 2)
    ├── DatasetError           the labelled real images cannot be used
    │   ├── ImageError         one image cannot be decoded; recorded, never fatal to a job
    │   │   └── ChangedImageError   its bytes are not those that were recorded
    │   └── SplitError         the images are too few, or not the ones, for the split
    ├── PlanError              no plan can be made from these counts, classes or sources
    ├── LeakError              the training would see what it must not see, or learn from what is no training image
    ├── TrainingError          a classifier cannot be built, loaded or trained
    ├── GeneratorError         the generator cannot be loaded or cannot generate
    └── RunError               a run folder cannot be used
        ├── RunMismatchError   the folder holds a run of other settings
        ├── RunLockedError     another process works on the same part
        └── CorruptRunError    what is on disk is not what was committed

Each message says what is wrong, where, and what to do about it.
"""


class AugcondError(Exception):
    """Base of every error that augcond raises on purpose."""

    exit_code = 1


class ConfigError(AugcondError):
    """A setting, argument or config file is wrong."""

    exit_code = 2


class MissingExtraError(AugcondError):
    """An optional dependency is not installed; the message names its pip command."""

    exit_code = 2


class DatasetError(AugcondError):
    """The labelled real images cannot be used."""


class ImageError(DatasetError):
    """One image cannot be decoded; the message is the reason, without the file's name."""


class ChangedImageError(ImageError):
    """One image's bytes are not those that were recorded; the message is the reason, without the file's name."""


class LargeImageError(ImageError):
    """One image takes so much memory that few are decoded at once, and by one process."""


class SplitError(DatasetError):
    """The images are too few, or not the ones, for the split."""


class LeakError(AugcondError):
    """Training would see validation or test images, or synthetic ones whose source is no training image."""


class TrainingError(AugcondError):
    """A classifier cannot be built, loaded or trained."""


class PlanError(AugcondError):
    """No plan can be made from these counts, classes or sources."""


class GeneratorError(AugcondError):
    """The generator cannot be loaded or cannot generate."""


class RunError(AugcondError):
    """A run folder cannot be used."""


class RunMismatchError(RunError):
    """The folder holds a run of other settings; the message names what differs."""


class RunLockedError(RunError):
    """Another process works on the same part of this run."""


class CorruptRunError(RunError):
    """What is on disk is not what was committed."""
