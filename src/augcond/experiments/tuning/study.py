"""The Optuna study of a tuning: its candidates are trials, its journal is a file of the run folder.

The study knows which candidates there are, what they scored in which round, and which were cut. Whoever reads or writes
it holds the claim `tuning`; what a process that was killed left half-done is finished by the next one, because every
step here can be taken twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augcond.errors import MissingExtraError, RunMismatchError
from augcond.experiments.tuning.candidates import (
    AS_CONFIGURED,
    Candidate,
    candidate_of,
    obstacle,
    parameters,
    suggested,
)
from augcond.files import make_folder, naming
from augcond.sealed import unfit
from augcond.store.fingerprint import differences
from augcond.store.names import FILES

try:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as error:
    raise MissingExtraError("augcond tune searches with Optuna: pip install 'augcond[tune]'") from error

if TYPE_CHECKING:
    from optuna import Study, Trial

    from augcond.config import RunConfig
    from augcond.evaluation.tuning_choice import Folded, Lines
    from augcond.experiments.tuning.schedule import Pilot, Schedule

_NAME = "tuning"
_SIDES = "sides of round {round}"
"""What a trial scored on each side."""
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


class _NoLock(JournalFileOpenLock):
    """Locks nothing: the claim keeps all others away, and a lock whose disk fails has an error of its own."""

    def acquire(self) -> bool:
        """Return that it is there."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Halving(BasePruner):
    """Cuts all but the best of a round, once all of the round have been reported.

    Optuna's own successive halving lets each trial go on as it comes, compared with those that came before; here the
    candidates of a round are compared on the same folds, so it waits for all. Each side of the real images keeps a line
    of its own: see `augcond.evaluation.tuning_choice`.

    Args:
        schedule: how many candidates and sets of images each round has.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether `trial` is not among those that go on from the last round that it was in."""
        step = trial.last_step
        return step is not None and trial.number not in self.going_on(study.get_trials(deepcopy=False), step)

    def going_on(self, trials: Sequence[FrozenTrial], number: int) -> list[int]:
        """Return the numbers of the trials that go on from round `number`: what either side keeps."""
        if number + 1 >= len(self._schedule.pilots):
            return [trial.number for trial in trials]
        one, other = self.lines(trials, number + 1)
        return list(dict.fromkeys([*one, *other]))

    def lines(self, trials: Sequence[FrozenTrial], number: int) -> tuple[list[int], list[int]]:
        """Return the numbers of the trials that each side has in round `number`, the best of the round before first."""
        if number == 0:
            everything = [trial.number for trial in trials]
            return everything, everything
        before = self.lines(trials, number - 1)
        known = {trial.number: trial for trial in trials if number - 1 in trial.intermediate_values}

        def ranked(side: int) -> list[int]:
            scores = {
                place: trial.user_attrs[_SIDES.format(round=number - 1)][side]
                for place, trial in known.items()
                if place in before[side]
            }
            return sorted(scores, key=lambda place: (-scores[place], place))

        sets = {place: str(trial.user_attrs["set"]) for place, trial in known.items()}
        default = [place for place, trial in known.items() if trial.user_attrs["name"] == AS_CONFIGURED]
        return by_turns((ranked(0), ranked(1)), sets, self._schedule.pilots[number], default)


def by_turns(
    ranked: tuple[Sequence[int], Sequence[int]], sets: Mapping[int, str], limit: Pilot, default: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Return what each of two sides keeps of its own ranking: they take turns, until together they have enough.

    What one side keeps decides nothing for the other, but for when there is enough.

    Args:
        ranked: candidates by number, the best first.
        sets: the set of images of each.
        limit: how many candidates and sets go on.
        default: what both keep first, whatever its place.
    """
    lines: tuple[list[int], list[int]] = ([*default], [*default])
    waiting = tuple(iter([place for place in order if place not in default]) for order in ranked)
    for turn in range(2 * max(map(len, ranked))):
        kept = {*lines[0], *lines[1]}
        if len(kept) >= limit.candidates:
            break
        side = turn % 2
        own, opened = {sets[place] for place in lines[side]}, {sets[place] for place in kept}
        fits = (place for place in waiting[side] if sets[place] in own or len(opened) < limit.sets)
        lines[side].extend(islice(fits, 1))
    return lines


class Search:
    """The study that lies at `path`.

    Args:
        path: its journal.
        config: what is tuned.
        schedule: of the rounds.
        recipes: that can be tried.
    """

    def __init__(self, path: Path, config: RunConfig, schedule: Schedule, recipes: Sequence[str]) -> None:
        self._path, self._config, self._recipes = path, config, tuple(recipes)
        self._pruner = Halving(schedule)
        with _at(self._path):
            self._study = _open(path, self._pruner)

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Enqueue candidates; those that are there already stay as they are."""
        with _at(self._path):
            for each in candidates:
                if each.name not in self._trials():
                    self._enqueue(each, {})

    def candidates(self, number: int) -> list[Candidate]:
        """Return the candidates of round `number`, in the order in which they came; of the first the designed ones."""
        trials = list(self._trials().values())
        if number:
            kept = self._pruner.going_on(trials, number - 1)
            chosen = [trial for trial in trials if number - 1 in trial.intermediate_values and trial.number in kept]
        else:
            chosen = [trial for trial in trials if "proposed" not in trial.user_attrs]
        return [candidate_of(trial.user_attrs["settings"]) for trial in chosen]

    def known(self) -> dict[str, Candidate]:
        """Return all candidates by name."""
        return {name: candidate_of(trial.user_attrs["settings"]) for name, trial in self._trials().items()}

    def mend(self) -> None:
        """Cut off what a killed process left half-written: nobody else writes while the claim is held."""
        _mend(self._path)

    def lines(self, number: int) -> Lines | None:
        """Return which candidates of round `number` each side has kept; None of the first, which all are in."""
        if number == 0:
            return None
        names = {trial.number: name for name, trial in self._trials().items()}
        one, other = self._pruner.lines(list(self._trials().values()), number)
        return [names[place] for place in one], [names[place] for place in other]

    def report(self, number: int, folded: Folded) -> None:
        """Say what candidates scored in round `number`; scores that are there already stay."""
        with _at(self._path):
            self._begin()
            for name in folded.made:
                trial = self._trials()[name]
                if number not in trial.intermediate_values:
                    resumed = self._resumed(trial)
                    resumed.set_user_attr(_SIDES.format(round=number), folded.side_scores(name))
                    resumed.report(folded.score(name), number)

    def cut(self, number: int) -> None:
        """Prune what does not go on from round `number`."""
        with _at(self._path):
            for trial in self._trials().values():
                if trial.state in _OPEN and trial.last_step == number and self._resumed(trial).should_prune():
                    self._study.tell(trial.number, state=TrialState.PRUNED)

    def finish(self, folded: Folded) -> None:
        """Complete the trials of the last round."""
        with _at(self._path):
            for name in folded.made:
                trial = self._trials()[name]
                if trial.state in _OPEN:
                    self._study.tell(trial.number, folded.score(name))

    def propose(self, count: int, number: int) -> list[Candidate]:
        """Return candidates of sets of images of their own, as Optuna's sampler proposes them after a round.

        The study's own trials are not finished yet, so the sampler learns from a copy in memory whose trials are.

        Args:
            count: how many sets are to be proposed in all.
            number: of the round whose scores it learns from.
        """
        with _at(self._path):
            sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=4, constant_liar=True)
            learned = optuna.create_study(direction="maximize", sampler=sampler)
            for trial in self._trials().values():
                if "proposed" not in trial.user_attrs:
                    score = trial.intermediate_values[number]
                    finished = optuna.trial.create_trial(
                        params=trial.params, distributions=trial.distributions, value=score
                    )
                    learned.add_trial(finished)
            for _ in range(20 * count):
                if len(self._proposed()) >= count:
                    break
                # The same ones in the same order, whoever asks: those that are there already are passed over.
                candidate = suggested(self._config, learned.ask(), self._recipes)
                known = {str(each.user_attrs["set"]) for each in self._trials().values()}
                if candidate.set_name not in known and obstacle(self._config, candidate) is None:
                    self._enqueue(candidate, {"proposed": True})
            return self._proposed()

    def _proposed(self) -> list[Candidate]:
        found = [trial for trial in self._trials().values() if "proposed" in trial.user_attrs]
        return [candidate_of(trial.user_attrs["settings"]) for trial in found]

    def _enqueue(self, candidate: Candidate, further: Mapping[str, Any]) -> None:
        about = {"name": candidate.name, "settings": dict(candidate.settings), "set": candidate.set_name, **further}
        self._study.enqueue_trial(parameters(self._config, candidate), user_attrs=about)

    def _begin(self) -> None:
        """Let all trials that wait run, with the values that they were enqueued with."""
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.ask()
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            suggested(self._config, self._resumed(trial), self._recipes)

    def _resumed(self, trial: FrozenTrial) -> Trial:
        return optuna.trial.Trial(self._study, trial._trial_id)

    def _trials(self) -> dict[str, FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return {str(trial.user_attrs["name"]): trial for trial in trials}


def settled(path: Path, wanted: Mapping[str, Any], images: int | None) -> int:
    """Return how many images the study at `path` may make, and let it say what it is of where it is new.

    Args:
        path: its journal.
        wanted: all that decides what comes out of it.
        images: that its budget buys; None to ask what was settled.

    Raises:
        RunMismatchError: it is of something else; the message names what differs.
    """
    with _at(path):
        study = _open(path)
        known = study.user_attrs.get("about")
        if known is None:
            if images is None:
                return 0
            study.set_user_attr("about", {"settings": dict(wanted), "images": images})
            return images
    unequal = list(differences(known["settings"], dict(wanted)))
    if unequal:
        known_method, method = (about.get("method of tuning", 0) for about in (known["settings"], wanted))
        way = (
            "give the config and budget that it was begun with"
            if known_method == method
            else "go on with the augcond that began it"
        )
        raise RunMismatchError(
            f"{path.parent.parent} holds a tuning of another config ({'; '.join(unequal)}): name another folder as "
            f"`run`, or {way}"
        )
    return int(known["images"])


def _open(path: Path, pruner: BasePruner | None = None) -> Study:
    make_folder(path.parent, 1)  # RUN/tuning
    _mend(path)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
    except OSError:
        raise
    except Exception as error:  # whatever Optuna makes of a line that it did not write
        raise unfit(path, f"{type(error).__name__}: {error}", FILES["study"].mend) from error
    try:
        # To ask for it by creating it would write a line each time.
        return optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)
    except KeyError:
        return optuna.create_study(study_name=_NAME, storage=storage, pruner=pruner, direction="maximize")


def _mend(path: Path) -> None:
    """Cut off a line that is not whole."""
    if not path.exists():
        return
    if not path.is_file():
        raise unfit(path, "it is no file: remove it", FILES["study"].mend)
    with path.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


@contextmanager
def _at(path: Path) -> Iterator[None]:
    """Let Optuna work on a study: it logs no trial, and an error of the disk says for which file."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(), naming(path):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
