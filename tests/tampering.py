"""Change files of a run so that the change does not show: what vouches for them is made to agree, as a script would."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from augcond.files import file_sha256
from augcond.sealed import SEAL, write_json, write_table
from augcond.store.plans import plan_to_table

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from augcond.store import RunFolder


def rewrite_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file, and seal it again."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop(SEAL, None)
    write_json(path, values | changes)


def vouch_for_shard(run: RunFolder, number: int) -> None:
    """Make the marker of a shard say what the shard is now."""
    path = run.shard_path(number)
    rewrite_json(run.marker_path(number), sha256=file_sha256(path), bytes=path.stat().st_size)


def rewrite_sources(run: RunFolder, table: pa.Table) -> None:
    """Write other sources, and make the plan go with them."""
    write_table(run.plan_path, plan_to_table(run.read_plan(), write_table(run.sources_path, table)))


def flip_bit(path: Path, place: float = 0.5) -> None:
    """Flip a bit in the middle of a file, or elsewhere, with size and times as they were."""

    times = path.stat()
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
