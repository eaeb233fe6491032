"""Embeddings of whole views, computed once for all rows of a run that use a source, and kept with the run.

They are computed in blocks of one shape, padded with zeros: then the last bits of an embedding depend neither on what
else is in its block nor on its place there. What is in a block is fixed by the plan: the sources in the order of their
first use, so that a block is needed by rows that are near each other, and no source is looked at that no row needs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import torch

from augcond.conditioning import recipe_of_row
from augcond.engine.sources import Kept
from augcond.errors import CorruptRunError
from augcond.generators.checked import embed_images
from augcond.sealed import read_table, write_table
from augcond.store.names import FILES

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import ConditioningConfig
    from augcond.engine.feeding import Threads
    from augcond.engine.sources import Sources
    from augcond.generators import Generator
    from augcond.planning import Plan
    from augcond.store.folder import RunFolder
    from augcond.store.plans import RunPlan

logger = logging.getLogger(__name__)

BLOCK = 16
"""Views that are encoded at once."""

LARGEST = 65_536
"""Bytes of an embedding that is kept; token grids of megabytes are encoded with their rows."""

LEAST_MEMORY = 64e6
"""Bytes of embeddings that are kept in memory, however little else may be."""

_ABOUT = b"augcond"


def are_kept(generator: Generator) -> bool:
    """Return whether embeddings of `generator` are small enough to be kept."""
    return 0 < 4 * math.prod(generator.embedding_shape) <= LARGEST


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which sources are encoded together.

    Attributes:
        keys: of the sources, in the order of their first use for a whole view.
        place: of each key in `keys`.
        kept: where their embeddings lie; None where they are kept in memory alone.
    """

    keys: list[str]
    place: dict[str, int]
    kept: KeptBlocks | None = None

    @classmethod
    def of(cls, plan: Plan, conditioning: ConditioningConfig) -> Blocks:
        """Return the blocks of a plan."""
        parts: list[pa.Array] = []
        for part in plan.columns(["recipe", "source_keys"]):
            names = part["recipe"].unique().to_pylist()
            recipes = {name: recipe_of_row(conditioning, name) for name in names}
            whole = [name for name, recipe in recipes.items() if recipe.with_image and recipe.pixels is None]
            used = part.filter(pc.is_in(part["recipe"], pa.array(whole, pa.string())))["source_keys"]
            parts.append(used.combine_chunks().flatten().unique())
        keys = pa.chunked_array(parts, pa.string()).unique().to_pylist()
        return cls(keys, {key: place for place, key in enumerate(keys)})

    def number(self, key: str) -> int:
        """Return the number of the block of a source."""
        return self.place[key] // BLOCK

    def block(self, number: int) -> list[str]:
        """Return the keys of a block's sources."""
        return self.keys[number * BLOCK : (number + 1) * BLOCK]


@dataclass(frozen=True, slots=True)
class KeptBlocks:
    """Where the embeddings of a run's sources lie.

    Attributes:
        folder: the run.
        made_of: sha256 of every source.
        made_with: what else an embedding depends on, as text.
    """

    folder: RunFolder
    made_of: dict[str, str]
    made_with: str

    @classmethod
    def of(cls, folder: RunFolder, plan: RunPlan, generator: Generator) -> KeptBlocks:
        """Return those of a run."""
        made_with = {"generator": asdict(generator.identity), "versions": dict(plan.versions)}
        made_with["data"] = plan.settings["data"]
        return cls(
            folder,
            {key: sha256 for key, (_, sha256) in folder.read_sources().items()},
            json.dumps(made_with, sort_keys=True),
        )

    def path(self, number: int) -> Path:
        """Return where the embeddings of a block are kept."""
        return self.folder.embeddings_path(number)

    def about(self, block: list[str]) -> str:
        """Return a digest of all that the embeddings of a block depend on."""
        sources = [f"{key}\0{self.made_of.get(key)}" for key in block]
        return hashlib.sha256("\n".join([self.made_with, *sources]).encode()).hexdigest()

    def read(self, number: int, block: list[str], shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Return the embeddings of a block as they were kept, those that could be computed.

        Raises:
            FileNotFoundError: none are, or of other sources or another generator.
        """
        try:
            table = read_table(self.path(number), FILES["embeddings"].mend).content
        except CorruptRunError as error:
            logger.warning("%s", error)
            raise FileNotFoundError from error
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        fits = (table.schema.metadata or {}).get(_ABOUT) == self.about(block).encode()
        if not fits or len(values) != table.num_rows * math.prod(shape):
            raise FileNotFoundError
        found = torch.from_numpy(values.copy()).view(table.num_rows, *shape)
        return dict(zip(table["key"].to_pylist(), found, strict=True))

    def write(self, number: int, block: list[str], found: dict[str, torch.Tensor]) -> None:
        """Keep the embeddings of a block; other workers write the same."""
        flat = [embedding.flatten().tolist() for embedding in found.values()]
        table = pa.table({"key": list(found), "embedding": pa.array(flat, pa.list_(pa.float32()))})
        try:
            self.path(number).parent.mkdir(exist_ok=True)
            write_table(self.path(number), table.replace_schema_metadata({_ABOUT: self.about(block)}))
        except OSError as error:  # they are only kept to save time
            logger.warning("%s cannot be written: %s", self.path(number), error.strerror)


class Embeddings:
    """Embeddings of the whole views of a run's sources.

    Args:
        blocks: which are computed together.
        sources: give the views.
        generator: computes them; called by whoever calls `get`.
        threads: ready the views of a block.
        limit: bytes that are kept in memory.
    """

    def __init__(self, blocks: Blocks, sources: Sources, generator: Generator, threads: Threads, limit: float) -> None:
        self._blocks, self._sources, self._generator, self._threads = blocks, sources, generator, threads
        self._kept: Kept[int, dict[str, torch.Tensor]] = Kept(
            max(limit, LEAST_MEMORY), lambda found: sum(embedding.nbytes for embedding in found.values())
        )
        self._lock = threading.Lock()
        self._views: dict[int, dict[str, Future[torch.Tensor]]] = {}
        self._raised: set[int] = set()

    def ready(self, key: str) -> None:
        """See to it that the embedding of a source is known, or can be computed; called by the threads.

        It waits for nothing that whoever calls `get` does, because that waits for the threads.

        Raises:
            Unreadable: the source cannot be read any more.
            GeneratorError: the generator gives something else than a view.
        """
        number = self._blocks.number(key)
        stored = self._blocks.kept
        if number in self._kept or (stored is not None and stored.path(number).exists()):
            return
        self._begin(number)
        self._sources.view(key)  # here, so that a source that cannot be read fails its own rows

    def get(self, key: str) -> torch.Tensor:
        """Return the embedding of a source that was readied, float32, (*embedding_shape).

        Raises:
            Unreadable: the source cannot be read any more.
            Exception: what the generator raises.
        """
        number = self._blocks.number(key)
        if number not in self._raised:
            try:
                found = self._kept.get(number, lambda: self._read(number) or self._compute(number))
            except torch.OutOfMemoryError:
                self._raised.add(number)
                logger.warning("out of memory for %d views at once: they are encoded one by one", BLOCK)
            except Exception as error:  # a generator raises what it likes
                self._raised.add(number)
                logger.warning("%d views are encoded one by one, because at once they raise: %r", BLOCK, error)
            else:
                if key in found:
                    return found[key]
        # It raises, or could not be read when its block was computed.
        return embed_images(self._generator, self._sources.view(key)[None])[0]

    def _begin(self, number: int) -> dict[str, Future[torch.Tensor]]:
        with self._lock:
            if number not in self._views:
                keys = self._blocks.block(number)
                self._views[number] = {key: self._threads.submit(self._sources.view, key) for key in keys}
            return self._views[number]

    def _read(self, number: int) -> dict[str, torch.Tensor] | None:
        stored = self._blocks.kept
        try:
            block, shape = self._blocks.block(number), self._generator.embedding_shape
            return None if stored is None else stored.read(number, block, shape)
        except FileNotFoundError:
            return None

    def _compute(self, number: int) -> dict[str, torch.Tensor]:
        size, readable = self._generator.encoder_size, []
        views = torch.zeros(BLOCK, 3, size, size)
        for place, (key, view) in enumerate(self._begin(number).items()):
            try:
                views[place] = view.result()
            except Exception as error:  # its own rows fail for it
                logger.debug("no view of %s: %r", key, error)
            else:
                readable.append((place, key))
        encoded = embed_images(self._generator, views)
        with self._lock:
            self._views.pop(number, None)
        found = {key: encoded[place].clone() for place, key in readable}
        stored = self._blocks.kept
        if stored is not None and all(embedding.isfinite().all() for embedding in found.values()):
            self._threads.submit(stored.write, number, self._blocks.block(number), found)
        return found
