"""Every file of a run folder: its name, whether it goes, how it says that it is whole, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from augcond.amounts import MEND_ROUNDS
from augcond.config.loading import MEND_CONFIG
from augcond.datasets.splits import MEND_SPLIT
from augcond.store.plans import MEND_PLAN


@dataclass(frozen=True, slots=True)
class RunFile:
    """One kind of file in a run folder.

    Attributes:
        pattern: its path in the run folder; names in braces stand for what tells several of a kind apart.
        goes: whether it goes when a run is made anew: images, and what was made of them.
        seal: how it says itself whether it is what was written (`augcond.sealed`); None where it does not.
        mend: what is to be done where it is not.
        spare: whether it can go at any time: it saves work, and is made anew or of no more use.
    """

    pattern: str
    goes: bool = True
    seal: Literal["json", "parquet", "safetensors"] | None = None
    mend: str = ""
    spare: bool = False

    @property
    def glob(self) -> str:
        """Matches all files of the kind."""
        return re.sub(r"\{.*?\}", "*", self.pattern)


CARD, WEIGHTS, CHECKPOINT = "model.json", "model.safetensors", "checkpoint.safetensors"
UNFIT_CARD = "model.unfit.json"
"""The files of a model, in the folder of its arm and training seed."""
_MODEL = "models/{arm}/seed-{seed}/"

_COMPUTE = "augcond generate computes it anew"
_TRAIN = "augcond train trains it anew"
_SCREEN = "the next augcond train screens anew"
_EVALUATE = "run augcond evaluate again"
_TUNE = "delete it and run augcond tune again"
_DECODE = "the next command decodes every image again"

FILES: Final[Mapping[str, RunFile]] = {
    # What goes, in this order: a crash in between leaves shards without a plan, which the next plan ignores.
    "plan": RunFile("plan.parquet", seal="parquet", mend=MEND_PLAN),
    "sources": RunFile("sources.parquet", seal="parquet", mend="augcond generate writes it anew"),
    "config": RunFile("config.yaml", mend=MEND_CONFIG),
    "shard": RunFile("shards/{number:05d}.parquet", mend="augcond generate makes it anew"),
    "shard made again": RunFile("shards/{number:05d}.{attempt}.parquet", mend="augcond generate makes it anew"),
    "marker": RunFile("shards/{number:05d}.done.json", seal="json", mend="augcond generate makes its shard anew"),
    "marker set aside": RunFile("shards/{number:05d}.unfit.json"),
    "embeddings": RunFile("embeddings/{number:05d}.parquet", seal="parquet", mend=_COMPUTE, spare=True),
    "rounds": RunFile("rounds.json", seal="json", mend=MEND_ROUNDS),
    "split": RunFile("split.json", seal="json", mend=MEND_SPLIT),
    "screening": RunFile("screening.json", seal="json", mend=_SCREEN),
    "margins": RunFile("screening.parquet", seal="parquet", mend=_SCREEN),
    "rejected": RunFile("rejected.json", seal="json", mend="delete it, and reject again with augcond reject"),
    "card": RunFile(_MODEL + CARD, seal="json", mend=_TRAIN),
    "card set aside": RunFile(_MODEL + UNFIT_CARD),
    "weights": RunFile(_MODEL + WEIGHTS, mend=_TRAIN),
    "checkpoint": RunFile(_MODEL + CHECKPOINT, seal="safetensors", mend=_TRAIN, spare=True),
    "predictions": RunFile("predictions/{on}/{arm}/seed-{seed}.parquet", seal="parquet", mend=_EVALUATE),
    "results": RunFile("results.json", seal="json", mend=_EVALUATE),
    "validation": RunFile("validation.json", seal="json", mend=_EVALUATE),
    "mapped": RunFile("cache/{recipe}.arrow", spare=True),
    "mapped shard": RunFile("cache/images/{number:05d}.arrow", mend="it is written anew from its shard", spare=True),
    "page": RunFile("report/index.html"),
    "figure": RunFile("report/figures/{name}"),
    "picture": RunFile("report/images/{name}"),
    "table of the report": RunFile("report/results{ending}"),
    "judged images": RunFile("report/misses.parquet"),
    "list of the report": RunFile("report/.augcond-files.txt"),
    "dataset card": RunFile("push/README.md", spare=True),
    "picture of the dataset": RunFile("push/samples.png", spare=True),
    "shard to push": RunFile("push/data/train-{number:05d}.parquet", spare=True),
    "list of the push": RunFile("push/.augcond-files.txt", spare=True),
    # What stays: what decoding found of the real images, and who works here.
    "decoded": RunFile("decoded.parquet", goes=False, seal="parquet", mend=_DECODE, spare=True),
    "decoded held-out": RunFile("decoded-{on}.parquet", goes=False, seal="parquet", mend=_DECODE, spare=True),
    "claim": RunFile("locks/{name}.claim", goes=False),
    "worker": RunFile("locks/{worker}.worker", goes=False),
    "lock": RunFile("locks/{name}.lock", goes=False),  # of 0.1
    "log": RunFile("log.txt", goes=False),
    "tracking": RunFile("tracking/{tracker}", goes=False),
    # The folder of a sweep, which is no run of its own, but holds runs.
    "sweep": RunFile("sweep.json", goes=False, seal="json", mend="run augcond sweep again"),
    "sweep table": RunFile("sweep.{ending}", goes=False),
    "cell": RunFile("cells/{kind}/{point}/seed-{seed}", goes=False),
    # The folder of a tuning, which holds runs too: those of its candidates' images are cells.
    "tuning": RunFile("tuning.json", goes=False, seal="json", mend=_TUNE),
    "tuned config": RunFile("tuned.yaml", goes=False),
    "tuned run": RunFile("tuned", goes=False),
    "tuning table": RunFile("tuning.{ending}", goes=False),
    "study": RunFile("tuning/study.log", goes=False, mend=_TUNE),
    "blocks": RunFile("tuning/blocks-{round}.json", goes=False, seal="json", mend=_TUNE),
    "folded": RunFile("tuning/{round}/{candidate}/training-{training}.json", goes=False, seal="json", mend=_TUNE),
    "probed": RunFile("tuning/{round}/{candidate}/probe.json", goes=False, seal="json", mend=_TUNE),
}
"""Every file of a run, of a sweep and of a tuning; a folder stands for all that is in it."""

RUNS: Final = ("cell", "tuned run")
"""Kinds that are folders with runs of their own."""
