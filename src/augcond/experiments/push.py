"""Push the images of a run to the Hugging Face hub, as a dataset with a card."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from augcond.datasets.benchmarks import BENCHMARK_NAMES, get_benchmark
from augcond.errors import ConfigError, RunError
from augcond.files import replacing_contents
from augcond.generators.families import find_family, weights_licence
from augcond.report.dataset_card import TAG, DatasetCard, draw_samples, render_card
from augcond.report.facts import read_facts
from augcond.store.pushing import DATA, LeftOut, write_data_files
from augcond.store.rejection import rejected_keys
from augcond.store.screened import Screened, given_screened

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from augcond.config import RunConfig
    from augcond.progress import Progress
    from augcond.store import RunFolder

logger = logging.getLogger(__name__)

_GO_ON = "run the same command again: what is there already is not sent twice"


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How a dataset is pushed.

    Attributes:
        private: whether a new dataset is; one that is there and public is refused then.
        licence: of the dataset, as the hub calls it; None leaves it out of the card.
        anyway: push in spite of licences that restrict it.
        screening: of a run that screens, what it kept, as training takes it; or all.
    """

    private: bool = True
    licence: str | None = None
    anyway: bool = False
    screening: Screened = "kept"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is ready to be pushed, or was.

    Attributes:
        folder: what was or is to be uploaded.
        left_out: rows that are no part of it.
        url: of the dataset; None where nothing was sent.
    """

    folder: Path
    left_out: LeftOut
    url: str | None = None


def objections(config: RunConfig) -> list[str]:
    """Return what the licences of generator and data have against publishing the images; empty where nothing is known.

    Raises:
        ConfigError: there is no such generator.
    """
    found = []
    if not find_family(config.generator.name).commercial:
        licence = weights_licence(config.generator)
        found.append(f"the generator {config.generator.name} comes under {licence}: read what it says of its images")
    if config.data.source in BENCHMARK_NAMES and (terms := get_benchmark(config.data.source).terms):
        found.append(f"the real images are of {get_benchmark(config.data.source).title}: {terms}")
    return found


def prepare_push(
    folder: RunFolder, repo_id: str, settings: PushSettings | None = None, *, progress: Progress | None = None
) -> Pushed:
    """Write RUN/push, the dataset as it would lie on the hub: data files, README.md and a picture; nothing is sent.

    Args:
        folder: the run; shards that are not generated yet are left out, with a warning.
        repo_id: `user/name`.
        settings: the defaults where None.
        progress: is told how many shards are written.

    Raises:
        ConfigError: `repo_id` is no such name, or licences restrict publishing and `anyway` is not given.
        RunError: there is no run, it has no image, or it screens and was not screened yet.
        CorruptRunError: the run is not what augcond wrote.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    settings = settings or PushSettings()
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} is no name of a dataset, such as user/name: {error}") from None
    config = folder.read_config()
    if not settings.anyway and (found := objections(config)):
        raise ConfigError(
            "\n".join(["publishing these images may not be allowed:", *found, "push with --anyway if it is"])
        )
    facts = read_facts(folder)
    screened = given_screened(folder, settings.screening)
    with replacing_contents(folder.push_path) as partial:
        left_out = write_data_files(folder, partial, screened, progress)
        licence = weights_licence(config.generator)
        card = DatasetCard(repo_id, left_out, rejected_keys(folder) | screened, licence, settings.licence)
        (partial / "README.md").write_text(render_card(card, facts), encoding="utf-8")
        draw_samples(card.missing, facts).save(partial / "samples.png")
    return Pushed(folder.push_path, left_out)


def push_run(
    folder: RunFolder, repo_id: str, settings: PushSettings | None = None, *, progress: Progress | None = None
) -> Pushed:
    """Do what `prepare_push` does, and upload it; call it again to go on after any interruption.

    The token is that of `hf auth login`, or HF_TOKEN. Files of an earlier push that the run no longer has go.

    Raises:
        ConfigError: see `prepare_push`.
        RunError: see there; or the hub refuses, holds something else of this name, or cannot be reached.
    """
    from huggingface_hub import HfApi

    settings = settings or PushSettings()
    ready = prepare_push(folder, repo_id, settings, progress=progress)
    api = HfApi(library_name="augcond")
    with _said_plainly(repo_id):
        url = api.create_repo(repo_id, repo_type="dataset", private=settings.private, exist_ok=True)
        _check_place(api, repo_id, settings)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=ready.folder,
            ignore_patterns=[".augcond-*"],
            delete_patterns=[f"{DATA}/train-*.parquet"],
            commit_message="Push by augcond",
        )
    return Pushed(ready.folder, ready.left_out, str(url))


def _check_place(api: HfApi, repo_id: str, settings: PushSettings) -> None:
    """Refuse a dataset that is not one of ours, or is seen by more people than was asked for."""
    found = api.dataset_info(repo_id)
    if settings.private and not found.private:
        raise RunError(f"{repo_id} is public: push with --public, make it private on the hub, or name another")
    files = {file.rfilename for file in found.siblings or ()} - {".gitattributes"}
    if files and TAG not in (found.tags or ()):
        raise RunError(f"{repo_id} holds a dataset that augcond did not push ({min(files)}): name another")


@contextmanager
def _said_plainly(repo_id: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except RunError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise RunError(
                f"the hub does not let you write {repo_id} (HTTP {status}): log in with `hf auth login`, with a token "
                "that may write"
            ) from error
        raise RunError(f"the hub answered HTTP {status} ({_first_line(error)}); {_GO_ON}") from error
    except Exception as error:  # whatever the network stack raises
        logger.info("push to %s", repo_id, exc_info=error)
        raise RunError(f"{repo_id} cannot be pushed ({_first_line(error)}); {_GO_ON}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
