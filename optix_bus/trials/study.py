"""The study that workers share: who may begin which trial, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.trials.best import BestTrial
from optix_bus.trials.course import Budget
from optix_bus.trials.owner import is_dead, myself
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.storage import Storage, import_optuna, open_storage
from optix_bus.trials.work import Work

_OWNER, _REASON, _LOST, _SPACE = "owner", "reason", "lost", "space"
#: Complete trials before a median means anything.
_PRUNER_STARTUP = 4


@dataclass(frozen=True)
class Row:
    """One trial in the table of a search.

    Attributes:
        number: of the trial in the study.
        state: running, complete, pruned or failed.
        score: of a trial that is not complete the last one it reported; NaN where there is none.
        params: its settings.
        steps: environment steps so far; while it runs, those of the last comparison, in the budget's unit.
        reason: why it has failed.
        weights: where its best policy lies.
        lost: it was not at fault, and another takes its place.
    """

    number: int
    state: str
    score: float
    params: dict[str, Any]
    steps: int
    reason: str
    weights: str
    lost: bool = False


class TrialStudy:
    """Trials chosen by TPE (Bergstra et al. 2011), the hopeless ones ended early by the median rule.

    Several processes may hold the same study. A trial is begun by exactly one of them, which signs it; the
    trial of a process that is gone is marked as failed by whoever asks for the next one. Between asking and
    signing a process is alone (`Storage.alone`), so that a trial without a signature is a dead one's.

    Args:
        space: what is searched; a study that was begun with another one is refused.
        budget: of each trial.
        storage: as for `open_storage`.
        name: of the study within its storage.
        seed: the random choices of a trial follow from it and the trial's number.
        startup: trials chosen at random before the sampler has something to go by.
        prune: whether hopeless trials are ended early.

    Raises:
        ConfigurationError: the storage holds a study of this name over another space.
        MissingExtra: Optuna is not installed.
    """

    def __init__(
        self,
        space: ParamSpace,
        budget: Budget,
        storage: Any = None,
        *,
        name: str = "optix-bus",
        seed: int = 0,
        startup: int = 10,
        prune: bool = True,
    ) -> None:
        self._optuna = import_optuna()
        self.space, self.budget, self.name, self.seed = space, budget, name, seed
        self._startup, self._prune = startup, prune
        self._storage: Storage = open_storage(storage)
        mine = {"space": space.plain(), "budget": str(budget)}
        with self._storage.alone():
            study = self._optuna.create_study(
                study_name=name,
                storage=self._storage.backend,
                direction="maximize",
                load_if_exists=True,
            )
            begun_with = study.user_attrs.get(_SPACE)
            if begun_with is None:
                study.set_user_attr(_SPACE, mine)
        if begun_with is not None and begun_with != _json(mine):
            raise ConfigurationError(
                f"the study {name!r} was begun with {_in_words(begun_with)}, this search is over "
                f"{_in_words(_json(mine))}: scores of both cannot be compared; choose another storage or "
                "study_name"
            )

    @property
    def study(self) -> Any:
        """Optuna's study, for its plots and tools."""
        return self._loaded(self.seed)

    def claim(self, limit: int) -> Any:
        """A new trial of this process, or None when ``limit`` trials have begun.

        Trials that were lost with their process, or interrupted, do not count.
        """
        with self._storage.alone():
            self._reap(ownerless=self._storage.path is not None)
            trials = self.study.get_trials(deepcopy=False)
            if sum(not trial.user_attrs.get(_LOST) for trial in trials) >= limit:
                return None
            key: list[int] = [self.seed, len(trials)]
            if self._storage.path is None and not self._storage.ours_alone:
                # Nobody sees to it that two workers do not ask at the same time: let them ask differently.
                key.append(int(myself()["pid"]))
            seed = int(np.random.SeedSequence(key).generate_state(1)[0])
            trial = self._loaded(seed).ask()
            trial.set_user_attr(_OWNER, myself())
        return trial

    def reap(self, reason: str = "") -> list[int]:
        """Mark the trials of processes that are gone as failed; returns their numbers."""
        with self._storage.alone():
            return self._reap(ownerless=self._storage.path is not None, reason=reason)

    def mark(self, trial: Any, work: Work, seconds: float) -> None:
        """What became of a trial, and how long it took."""
        facts: dict[str, Any] = {"steps": work.steps, "seconds": round(seconds, 3)}
        if work.weights:
            facts["weights"] = work.weights
        if work.interrupted:
            self.fail(trial, "interrupted", lost=True, **facts)
        elif work.pruned:
            self.prune(trial, **facts)
        elif math.isfinite(work.score):
            self.complete(trial, work.score, **facts)
        else:
            self.fail(trial, work.reason, **facts)

    def complete(self, trial: Any, score: float, **facts: Any) -> None:
        """The trial has used its budget, or was done before; ``facts`` are kept with it."""
        self._note(trial, facts)
        self._tell(trial, score, self._optuna.trial.TrialState.COMPLETE)

    def prune(self, trial: Any, **facts: Any) -> None:
        """The trial was ended early as hopeless."""
        self._note(trial, facts)
        self._tell(trial, None, self._optuna.trial.TrialState.PRUNED)

    def fail(self, trial: Any, reason: str, *, lost: bool = False, **facts: Any) -> None:
        """The trial has no score. One that is ``lost`` was not at fault, and another takes its place."""
        self._note(trial, {**facts, _REASON: reason, **({_LOST: True} if lost else {})})
        self._tell(trial, None, self._optuna.trial.TrialState.FAIL)

    def rows(self) -> list[Row]:
        """Every trial so far, in the order of their numbers."""
        return [self._row(trial) for trial in self.study.get_trials(deepcopy=False)]

    def why(self) -> str:
        """What the last trial without a score failed of, put behind a sentence; empty where none has."""
        reasons = [row.reason for row in self.rows() if row.reason]
        return f" (the last one: {reasons[-1]})" if reasons else ""

    def best(self) -> BestTrial | None:
        """The complete trial with the highest score, the first of equals; None before there is one."""
        complete = [row for row in self.rows() if row.state == "complete" and math.isfinite(row.score)]
        if not complete:
            return None
        row = max(complete, key=lambda row: (row.score, -row.number))
        return BestTrial(row.params, row.score, number=row.number, weights_path=row.weights)

    def _loaded(self, seed: int) -> Any:
        """The study with fresh eyes: what a sampler remembers between trials is another process's past."""
        samplers, pruners = self._optuna.samplers, self._optuna.pruners
        pruner = (
            pruners.MedianPruner(_PRUNER_STARTUP, self.budget.warmup) if self._prune else pruners.NopPruner()
        )
        return self._optuna.load_study(
            study_name=self.name,
            storage=self._storage.backend,
            sampler=samplers.TPESampler(n_startup_trials=self._startup, seed=seed),
            pruner=pruner,
        )

    def _reap(self, *, ownerless: bool, reason: str = "") -> list[int]:
        running = self._optuna.trial.TrialState.RUNNING
        reaped = []
        study, backend = self.study, self._storage.backend
        study_id = backend.get_study_id_from_name(self.name)
        for trial in study.get_trials(deepcopy=False, states=(running,)):
            owner = trial.user_attrs.get(_OWNER)
            if not (is_dead(owner) if owner is not None else ownerless):
                continue
            who = f"process {owner['pid']}" if owner is not None else "its process"
            identity = backend.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            backend.set_trial_user_attr(identity, _REASON, reason or f"{who} is gone")
            backend.set_trial_user_attr(identity, _LOST, True)
            study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL, skip_if_finished=True)
            reaped.append(trial.number)
        return reaped

    def _note(self, trial: Any, facts: dict[str, Any]) -> None:
        for key, value in facts.items():
            trial.set_user_attr(key, value)

    def _tell(self, trial: Any, score: float | None, state: Any) -> None:
        trial.study.tell(trial, score, state=state, skip_if_finished=True)

    def _row(self, trial: Any) -> Row:
        attributes = trial.user_attrs
        state = trial.state.name.lower()
        return Row(
            number=trial.number,
            state={"fail": "failed"}.get(state, state),
            score=_shown(trial),
            params=self.space.decode(trial.params),
            steps=int(attributes.get("steps", trial.last_step or 0)),
            reason=str(attributes.get(_REASON, "")),
            weights=str(attributes.get("weights", "")),
            lost=bool(attributes.get(_LOST)),
        )


def _shown(trial: Any) -> float:
    """The score; of a trial under way, or pruned, the last one that it reported."""
    if trial.value is not None:
        return float(trial.value)
    reported = trial.intermediate_values
    return float(reported[trial.last_step]) if reported else math.nan


def _json(value: Any) -> Any:
    """As a storage gives it back: tuples are lists there."""
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


def _in_words(about: Any) -> str:
    names = ", ".join(f"{name} {dimension}" for name, dimension in about["space"].items())
    return f"{names} and {about['budget']} a trial"
