"""A run's images for training scripts of one's own: data sets, and batches that mix real and synthetic as ours do.

Named `augcond.torch` after what it is for; PyTorch itself is `torch`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import one_hot
from torch.utils.data import Dataset, Sampler

from augcond.datasets import load_dataset
from augcond.datasets.contents import open_image
from augcond.datasets.splits import draw_split, settle_split, subset
from augcond.errors import ConfigError, CorruptRunError, RunError
from augcond.store.folder import RunFolder
from augcond.store.images import decode_stored
from augcond.store.mapped import MappedShard, map_shard
from augcond.store.rejection import rejected_keys
from augcond.store.resolving import resolve_run
from augcond.store.screened import screened_keys
from augcond.store.shards import OK, PROVENANCE, Provenance, shard_columns, shard_rows
from augcond.training.batches import BatchSampler, BatchSettings
from augcond.training.devices import Rank

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.store.commit import ShardMarker

__all__ = ["BatchSettings", "MixedBatchSampler", "RealDataset", "RunDataset"]

Transform = Callable[["Image"], Any]
"""What an image becomes: a PIL image, RGB -> what a batch is made of."""

_OPEN: Final = 64
"""Shards that a process has mapped, and those whose provenance it holds, at once."""
_ROW: Final = (*PROVENANCE, "label", "error")


class RunDataset(Dataset[tuple[Any, Any]]):
    """The generated images of a run, each decoded when it is asked for; rejected ones are left out.

    Items are (image, label): what `transform` makes of the image, and the number of its class in the run, or the shares
    of all classes. It can be sent to workers of a `DataLoader`; they and all processes of a machine share the memory of
    the encoded images.

    Args:
        run: a run folder, generated to the end, or the config that made it.
        recipe: only images of this recipe, or of these, by their short names; of all where None.
        screening: `kept`: what training takes: where the run screens, the images that it kept; `dropped`: those that it
            dropped; `all`.
        status: `ok`; or `failed`, rows without an image, of which `provenance` says why.
        soft_labels: labels are the shares of the classes, float32 (C,), as cross entropy takes them; what images that
            mix two classes need.
        transform: see `Transform`; the PIL image itself where None.
        cache: a folder for copies of the shards that single images are read from; in the run folder where None.

    Attributes:
        classes: class ids in label order.
        class_names: the words that prompts use.
        keys: of the images, in the order of the plan.
        labels: of the images; of those that mix two classes, that with the larger share.

    Raises:
        RunError: there is no run, it is not generated to the end, or was not screened since.
        ConfigError: the run has no such recipe, or images mix two classes and labels are not soft.
    """

    def __init__(
        self,
        run: Path | str | RunFolder,
        *,
        recipe: str | Collection[str] | None = None,
        screening: Literal["kept", "dropped", "all"] = "kept",
        status: Literal["ok", "failed"] = "ok",
        soft_labels: bool = False,
        transform: Transform | None = None,
        cache: Path | str | None = None,
    ) -> None:
        self._folder = _folder(run)
        self._cache = None if cache is None else Path(cache)
        self.transform, self._soft = transform, soft_labels
        plan = self._folder.read_plan()
        self._columns = (*_ROW, *plan.further_columns)
        markers = self._folder.markers(plan)
        left = sum(marker is None for marker in markers)
        if left:
            raise RunError(
                f"{left} of {len(markers)} shards of {self._folder.path} are not generated yet: run augcond generate "
                "first"
            )
        self._markers: list[ShardMarker] = [marker for marker in markers if marker is not None]
        self.classes, self.class_names = plan.classes, plan.class_names
        table = plan.plan.table.select(["shard", "key", "label", "recipe"])
        places = [np.arange(stop - start) for start, stop in plan.plan.bounds()]
        if [len(each) for each in places] != [marker.rows for marker in self._markers]:
            raise CorruptRunError(f"{self._folder.path} holds other rows than its plan: augcond check says which")
        table = table.append_column("place", pa.array(np.concatenate(places) if places else [], pa.int64()))
        mixes = plan.plan.mixes_classes
        if mixes:
            table = self._with_shares(table)
        table = table.filter(pa.array(self._has_status(status), pa.bool_()))
        table = table.filter(pc.invert(pc.is_in(table["key"], _texts(rejected_keys(self._folder)))))
        if recipe is not None:
            table = table.filter(pc.is_in(table["recipe"], _texts(self._recipes(recipe, plan.plan.table))))
        if screening != "all" and status == OK:
            dropped = pc.is_in(table["key"], _texts(screened_keys(self._folder)))
            table = table.filter(dropped if screening == "dropped" else pc.invert(dropped))
        self.keys: tuple[str, ...] = tuple(table["key"].to_pylist())
        self.labels: tuple[int, ...] = tuple(table["label"].to_pylist())
        self._shards, self._places = table["shard"].to_numpy(), table["place"].to_numpy()
        # Of an image of one class, the other one is that class.
        self._others = pc.coalesce(table["other_label"], table["label"]).to_numpy() if mixes else np.array(self.labels)
        self._shares = pc.fill_null(table["label_share"], 1.0).to_numpy() if mixes else np.ones(len(self.labels))
        if status == OK and not soft_labels and (self._shares < 1).any():
            mixed = pc.unique(table.filter(pa.array(self._shares < 1))["recipe"]).to_pylist()
            raise ConfigError(
                f"images of {', '.join(mixed)} mix two classes, which one number cannot say: soft_labels=True gives "
                "shares of the classes, and recipe=... leaves these out"
            )
        self._mapped: OrderedDict[int, MappedShard] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return an image and its label.

        Raises:
            RunError: its row failed.
            CorruptRunError: its shard is not what was committed.
        """
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self._label(index)

    def _label(self, index: int) -> int | torch.Tensor:
        if not self._soft:
            return self.labels[index]
        shares = torch.zeros(len(self.classes))
        shares[self.labels[index]] += self._shares[index]
        shares[self._others[index]] += 1 - self._shares[index]
        return shares

    def image(self, index: int) -> Image:
        """Return an image, RGB, as it is.

        Raises:
            RunError: see `__getitem__`.
        """
        if self._markers[self._shards[index]].failed and (error := self.provenance(index).error) is not None:
            raise RunError(f"{self.keys[index]!r} has no image: {error}")
        return decode_stored(self._shard(int(self._shards[index])).image(int(self._places[index])))

    def provenance(self, index: int) -> Provenance:
        """Return where an image comes from; reads a shard without its images."""
        number, place = int(self._shards[index]), int(self._places[index])
        (row,) = shard_rows(self._folder.shards / self._markers[number].file, self._columns, [place])
        return Provenance.of(row)

    def _shard(self, number: int) -> MappedShard:
        if number not in self._mapped:
            own = self._folder.mapped_shard_path(number)
            path = own if self._cache is None else self._cache / own.name
            self._mapped[number] = map_shard(self._folder, number, self._markers[number], path)
            if len(self._mapped) > _OPEN:
                self._mapped.popitem(last=False)
        return self._mapped[number]

    def _with_shares(self, table: pa.Table) -> pa.Table:
        """Return the rows of the plan with the second class of each, and the share of the first."""
        for name in ("other_label", "label_share"):
            parts = [shard_columns(self._folder.shards / marker.file, (name,)) for marker in self._markers]
            table = table.append_column(name, pa.concat_tables(parts)[name])
        return table

    def _has_status(self, status: str) -> np.ndarray:
        """Return for each row of the plan whether it has this status; shards without failed rows are not read."""
        parts = []
        for marker in self._markers:
            if marker.failed:
                found = shard_columns(self._folder.shards / marker.file, ("status",))["status"].to_pylist()
            else:
                found = [OK] * marker.rows
            parts.append(np.array(found) == status)
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _recipes(self, recipe: str | Collection[str], table: pa.Table) -> list[str]:
        asked = [recipe] if isinstance(recipe, str) else list(recipe)
        known = pc.unique(table["recipe"]).to_pylist()
        for name in asked:
            if name not in known:
                raise ConfigError(f"recipe {name!r}: {self._folder.path} has images of {', '.join(known) or 'none'}")
        return asked

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs; it maps the shards itself."""
        return {**self.__dict__, "_mapped": OrderedDict()}


class RealDataset(Dataset[tuple[Any, Any]]):
    """The real images that a run trains on: of its split, none that are held out; labels as in `RunDataset`.

    Args:
        run: a run folder, or the config that made it.
        soft_labels: see `RunDataset`; labels of both have one form in a batch.
        transform: see `Transform`; the PIL image itself where None.

    Attributes:
        classes: class ids in label order.
        class_names: the words that prompts use.
        keys: of the images.
        labels: of the images.

    Raises:
        RunError: there is no run.
        DatasetError: the images cannot be used.
    """

    def __init__(
        self, run: Path | str | RunFolder, *, soft_labels: bool = False, transform: Transform | None = None
    ) -> None:
        folder = _folder(run)
        config = folder.read_config()
        pool = load_dataset(config.data, cache=folder.decoded_path())
        split = settle_split(folder.split_path, draw_split(config, pool))
        self._images = subset(pool, split.train)
        self.transform, self._soft = transform, soft_labels
        self.classes, self.class_names = pool.classes, pool.class_names
        self.keys: tuple[str, ...] = tuple(image.key for image in self._images.images)
        self.labels: tuple[int, ...] = tuple(image.label for image in self._images.images)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return an image, upright, sRGB, and its label.

        Raises:
            DatasetError: it can no longer be read.
        """
        image, label = open_image(self._images, self.keys[index]), self.labels[index]
        given = one_hot(torch.tensor(label), len(self.classes)).float() if self._soft else label
        return (image if self.transform is None else self.transform(image)), given


class MixedBatchSampler(Sampler[list[int]]):
    """Batches that mix real and synthetic images as augcond's own training does, as `batch_sampler` of a `DataLoader`.

    It gives positions in `real + synthetic`, the two data sets behind each other. What a batch holds is a function of
    seed and step alone. Images come in shuffled rounds: none is seen twice before all are seen once. Each iteration
    goes on where the one before ended; `set_epoch` goes to the beginning of any.

    With several processes (`torch.distributed`), each takes its share of every batch: do not let a launcher's library
    share the batches out once more (Accelerate: leave the loader out of `prepare`).

    Args:
        real: number of real images.
        synthetic: number of synthetic images.
        settings: images a batch over all processes, share of synthetic ones, and whether each batch has this share or
            each image is synthetic with this probability.
        steps: batches of one iteration.
        seed: of the order.
        balance: labels of the real images; given, they are drawn class by class, each class equally often.

    Raises:
        TrainingError: images are asked for of which there are none.
        ConfigError: a batch cannot be shared out evenly.
    """

    def __init__(
        self,
        real: int,
        synthetic: int,
        settings: BatchSettings,
        *,
        steps: int,
        seed: int = 0,
        balance: Sequence[int] | None = None,
    ) -> None:
        self._real, self._synthetic, self._settings = real, synthetic, settings
        self._steps, self._seed, self._balance = steps, seed, balance
        self._epoch = 0
        distributed = torch.distributed
        together = distributed.is_available() and distributed.is_initialized()
        self.share(*((distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)))
        self._batches(1)

    def share(self, number: int, count: int) -> None:
        """Give the batches of process `number` of `count`; told by `torch.distributed` where that is initialised.

        Raises:
            ConfigError: a batch cannot be shared out evenly.
        """
        if self._settings.size % count:
            raise ConfigError(f"{self._settings.size} images a batch cannot be shared out over {count} processes")
        self._rank = Rank(number, count, torch.device("cpu"))

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of iteration `epoch`, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of one iteration."""
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the positions of each batch of the iteration: real ones, then synthetic ones."""
        start = self._epoch * self._steps
        self._epoch += 1
        batches = self._batches(self._epoch)
        for step in range(start, start + self._steps):
            real, synthetic = batches(step).share_of(self._rank)
            yield [*real.tolist(), *(synthetic + self._real).tolist()]

    def _batches(self, epochs: int) -> BatchSampler:
        steps = epochs * self._steps
        return BatchSampler(self._real, self._synthetic, self._settings, self._seed, steps, self._balance)


def _folder(run: Path | str | RunFolder) -> RunFolder:
    folder = run if isinstance(run, RunFolder) else resolve_run(Path(run))
    folder.read_config()  # which refuses links that lead out of it: copies of shards are written there
    return folder


def _texts(values: Collection[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
