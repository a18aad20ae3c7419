"""`TrialOrchestrator`: which settings are worth a long run, found by many short ones."""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError, NodeFailure
from optix_bus.interfaces import BaseAgent, BasePipeline, LoopCallback
from optix_bus.loop.settings import LoopSettings
from optix_bus.runtime.loop_options import check_options, checkpoint_folder, split_options, stamped
from optix_bus.trials.best import BestTrial
from optix_bus.trials.course import Budget
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.storage import import_optuna
from optix_bus.trials.study import Row, TrialStudy
from optix_bus.trials.trial import Trial
from optix_bus.trials.work import Work

#: What a trial decides itself, and why it cannot be given.
_OWN = {
    "agent": "each trial has its own: agent_factory makes it",
    "pipeline": "each trial has its own: pipeline_factory makes it",
    "val_pipeline": "each trial has its own: pass val_pipeline_factory",
    "checkpoint_dir": "each trial has its own folder: pass checkpoint_dir to the orchestrator",
    "keep_watching": "a trial has to end",
    "max_steps": "the budget of a trial is trial_steps or trial_episodes",
    "max_episodes": "the budget of a trial is trial_steps or trial_episodes",
    "seed": "each trial has its own: pass seed to the orchestrator",
}


class TrialOrchestrator:
    """Independent short runs with other settings each; the best settings come back.

        orchestrator = TrialOrchestrator(
            agent_factory=lambda params: make_agent(env, hyperparams=params),
            pipeline_factory=lambda: BatchPipeline(env_id="CartPole-v1", window_size=256),
            param_space={"learning_rate": ("log_float", 1e-4, 3e-3), "clip_ratio": ("float", 0.1, 0.3)},
            n_trials=20,
            trial_steps=50_000,
        )
        best_params, best_score = orchestrator.run()

    Trials are chosen by Optuna's TPE, and those below the median of the complete ones at the same amount of
    training are ended early. What a trial scores is what its best policy scored, by the signal that the loop
    decides by: validation episodes where there is a ``val_pipeline_factory``. Hyperparameters are not tuned
    inside a trial, unless ``rloptimizer_kwargs`` names an optimizer: a score should be that of the settings.

    Args:
        agent_factory: params to a new agent.
        pipeline_factory: makes the pipeline of a trial; it and its environments are closed after the trial.
        param_space: what is searched, see `ParamSpace`; by default the bounds that the agent brings.
        n_trials: how many in the whole study, whoever runs them: workers that share a storage share them, and
            a study that is taken up again is carried on to this number. Trials that were lost with their
            process do not count.
        trial_steps: environment steps of one trial; 50,000 by default.
        trial_episodes: instead of ``trial_steps``, windows of one trial, as ``max_episodes`` counts them.
        direction: ``maximize``; scores of the loop are higher for better policies.
        n_startup_trials: trials that are chosen at random before TPE has something to go by.
        pruner_warmup_steps: no trial is ended before; in the unit of the budget, by default 15 % of it.
        pruner_interval: from one comparison to the next, in the unit of the budget; by default a twentieth.
        prune: False to let every trial use its whole budget.
        optuna_verbosity: level for Optuna's own messages; by default warnings only.
        rloptimizer_kwargs: further arguments of `RLOptimizer` for every trial.
        val_pipeline_factory: makes the validation pipeline of a trial.
        checkpoint_score_fn: chooses the best policy of a trial, and is then what the trial scores.
        study_name: of the study within its storage.
        storage: where the study lies: a path (journal), ``sqlite:///study.db``, any URL that Optuna takes, or
            a storage of Optuna's; by default in this process.
        checkpoint_dir: each trial has a folder below it; by default a new one in ``./optix_bus_checkpoints``.
        seed: trial n is run with seed + n.
        verbose: a line for each trial.

    Raises:
        ConfigurationError: an argument is wrong; a space is checked before anything is run.
        MissingExtra: Optuna is not installed.
    """

    def __init__(
        self,
        agent_factory: Callable[[dict[str, Any]], BaseAgent],
        pipeline_factory: Callable[[], BasePipeline],
        param_space: Mapping[str, Any] | None = None,
        n_trials: int = 20,
        trial_steps: int | None = None,
        *,
        trial_episodes: int | None = None,
        direction: str = "maximize",
        n_startup_trials: int = 10,
        pruner_warmup_steps: int | None = None,
        pruner_interval: int | None = None,
        prune: bool = True,
        optuna_verbosity: int | None = None,
        rloptimizer_kwargs: Mapping[str, Any] | None = None,
        val_pipeline_factory: Callable[[], BasePipeline] | None = None,
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        study_name: str | None = None,
        storage: Any = None,
        checkpoint_dir: str | Path | None = None,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        for name, factory in (("agent_factory", agent_factory), ("pipeline_factory", pipeline_factory)):
            if not callable(factory):
                raise ConfigurationError(
                    f"found {name} of type {type(factory).__name__}, expected a function: every trial needs "
                    "an agent and a pipeline of its own"
                )
        if direction != "maximize":
            raise ConfigurationError(
                f"found direction={direction!r}, expected 'maximize': a loop makes its scores higher, so an "
                "evaluator of a quantity that should fall returns it with a minus"
            )
        if isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1:
            raise ConfigurationError(f"found n_trials={n_trials!r}, expected a whole number of at least 1")
        options = dict(rloptimizer_kwargs or {})
        if checkpoint_score_fn is not None:
            options["checkpoint_score_fn"] = checkpoint_score_fn
        _check(options)
        self.n_trials = n_trials
        self.seed = seed
        self.budget = Budget.of(trial_steps, trial_episodes, pruner_warmup_steps, pruner_interval)
        self._factories = (agent_factory, pipeline_factory, val_pipeline_factory)
        self._options = options
        self._verbose = verbose
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING if optuna_verbosity is None else optuna_verbosity)
        space = ParamSpace(param_space) if param_space is not None else _space_of(agent_factory)
        self._study = TrialStudy(
            space,
            self.budget,
            storage,
            name=study_name if study_name is not None else "optix-bus",
            seed=seed,
            startup=n_startup_trials,
            prune=prune,
        )
        #: Folder with the checkpoints of every trial that this object runs.
        self.run_ckpt_dir = checkpoint_folder(checkpoint_dir, stamped("search"))
        if not self._study.rows() and (others := sorted(self.run_ckpt_dir.glob("trial-*"))):
            raise ConfigurationError(
                f"{others[0]} is there already, but the study has no trial: checkpoint_dir "
                f"{str(self.run_ckpt_dir)!r} belongs to another search; choose another one, or pass the "
                "storage of that search to go on with it"
            )
        #: Whether `run` was ended by an interrupt or by `stop`.
        self.interrupted = False
        self._stopped = False
        self._now: Trial | None = None

    def run(self) -> BestTrial:
        """Run trials until the study has ``n_trials``; returns params and score of the best.

        A trial that raises is marked as failed and the next one begins. After an interrupt (Ctrl-C) the trial
        under way is given up, and the best of the others comes back.

        Raises:
            NodeFailure: no trial came to a score; names what the last one failed of.
            KeyboardInterrupt: interrupted before there was one.
        """
        self.interrupted = self._stopped = False
        try:
            while not self._stopped and (claimed := self._study.claim(self.n_trials)) is not None:
                self._run(claimed)
        except KeyboardInterrupt:
            self.interrupted = True
        best = self._study.best()
        if best is not None:
            return best
        if self.interrupted:
            raise KeyboardInterrupt
        raise NodeFailure(f"no trial came to a score{self._study.why()}")

    def stop(self) -> None:
        """End the trial under way and the search; from a callback, a signal handler or another thread."""
        self._stopped = self.interrupted = True
        if self._now is not None:
            self._now.stop("stop requested")

    def stop_trial(self) -> None:
        """End the trial under way as if it had used its budget; the search goes on."""
        if self._now is not None:
            self._now.finish()

    def add_callback(self, callback: LoopCallback) -> None:
        """One more callback for the trial under way; also while its agent is made."""
        if self._now is None:
            raise ConfigurationError("no trial is under way: pass callbacks in rloptimizer_kwargs")
        self._now.callbacks.append(callback)

    @property
    def study(self) -> Any:
        """Optuna's study, for inspection and plots."""
        return self._study.study

    @property
    def trials(self) -> list[Row]:
        """Every trial so far: number, state, score, params, steps, reason."""
        return self._study.rows()

    @property
    def best_params(self) -> dict[str, Any]:
        """Settings of the best trial."""
        return self._best().params

    @property
    def best_score(self) -> float:
        """What the best trial scored."""
        return self._best().score

    @property
    def best_weights_path(self) -> str | None:
        """The weights that earned the best score; None where that trial has kept none."""
        return self._best().weights_path or None

    def trials_dataframe(self) -> Any:
        """The study as a pandas data frame, one row a trial.

        Raises:
            ConfigurationError: pandas is not installed; `trials` holds the same without it.
        """
        if importlib.util.find_spec("pandas") is None:
            raise ConfigurationError(
                "trials_dataframe() needs pandas, which is not installed: pip install pandas (`trials` holds "
                "the same as a list)"
            )
        return self.study.trials_dataframe()

    def _best(self) -> BestTrial:
        best = self._study.best()
        if best is None:
            raise ConfigurationError(f"no trial has a score yet{self._study.why()}: call run() first")
        return best

    def _run(self, claimed: Any) -> None:
        """One trial from its claim to its mark; only interrupts come out of it."""
        began = time.monotonic()
        options = {
            name: _own(value) if name in ("evaluator", "optimizer") else value
            for name, value in self._options.items()
        }
        folder = self.run_ckpt_dir / f"trial-{claimed.number:04d}"
        trial = self._now = Trial(claimed, self.budget, folder, self.seed + claimed.number, options)
        params: dict[str, Any] = {}
        try:
            params = self._study.space.suggest(claimed)
            work = trial.run(params, *self._factories)
        except KeyboardInterrupt:
            self._study.fail(claimed, "interrupted", lost=True)
            raise
        except Exception as error:  # the user's factories, agents and environments; the search goes on
            work = Work(reason=f"{type(error).__name__}: {error}", steps=trial.steps)
        finally:
            self._now = None
        self._study.mark(claimed, work, time.monotonic() - began)
        self._say(claimed.number, params, work)
        if work.interrupted and not self._stopped:
            raise KeyboardInterrupt

    def _say(self, number: int, params: Mapping[str, Any], work: Work) -> None:
        if not self._verbose:
            return
        best = self._study.best()
        record = f"; best {best.score:.2f} (trial {best.number})" if best is not None else ""
        values = ", ".join(f"{name}={_short(value)}" for name, value in params.items())
        print(f"trial {number}: {work} after {work.steps:,} steps; {values}{record}", flush=True)


def _space_of(agent_factory: Callable[[dict[str, Any]], BaseAgent]) -> ParamSpace:
    """The bounds that an agent brings itself, from one that is made for it."""
    try:
        agent = agent_factory({})
    except Exception as error:
        raise ConfigurationError(
            "there is no param_space, and agent_factory({}), which would show the agent's own bounds, raised "
            f"{type(error).__name__}: {error}; pass param_space"
        ) from error
    try:
        bounds = dict(agent.default_param_bounds)
        if not bounds:
            raise ConfigurationError(
                f"there is no param_space, and {type(agent).__name__} has no default_param_bounds; pass one"
            )
        return ParamSpace.from_bounds(bounds, agent.default_log_params, agent.get_hyperparams().params)
    finally:
        agent.teardown()


def _check(options: Mapping[str, Any]) -> None:
    """The further arguments of every trial, before the first of them is run."""
    for name in options:
        if name in _OWN:
            raise ConfigurationError(f"rloptimizer_kwargs holds {name!r}, but {_OWN[name]}")
    _, settings = split_options(options)
    check_options(settings)
    LoopSettings(**settings)


def _own(given: Any) -> Any:
    """A copy for one trial: an evaluator or optimizer with a memory would carry it from one to the next."""
    try:
        return copy.deepcopy(given)
    except Exception:  # what cannot be copied is shared
        return given


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
