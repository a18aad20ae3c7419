"""The options of a loop over one's own objects, for `RLOptimizer` and for each trial of a search."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.errors import ConfigurationError
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.interfaces import BaseAgent, BaseEvaluator, BaseOptimizer, BasePipeline, LoopCallback
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.settings import LoopSettings
from optix_bus.messages import Event
from optix_bus.optimizers import make_optimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.runtime.controller import LoopController

#: Keyword arguments of others, or of topologies, that have no place here, and what to do instead.
_ELSEWHERE = {
    "convergence_patience": "set dormant_threshold, and convergence_margin for the change that matters",
    "cv_threshold": "the equivalence test takes the noise from the scores themselves; set convergence_margin",
    "gap_threshold": "convergence is decided on validation scores alone; the metrics hold generalization_gap",
    "trend_window": "set convergence_window",
    "lookahead": "one agent object cannot act and learn at the same time; a topology can (optix-bus up)",
    "cut_windows": "cuts are written into a run directory; a topology has one (optix-bus up)",
    "cut_bytes": "cuts are written into a run directory; a topology has one (optix-bus up)",
}


#: Options that are no settings of the loop.
_NAMED = (
    "evaluator", "optimizer", "callbacks", "max_snapshots", "val_episodes", "checkpoint_score_fn", "verbose",
)  # fmt: skip


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a loop, in those that `make_controller` takes by name and the settings."""
    named = {name: value for name, value in options.items() if name in _NAMED}
    return named, {name: value for name, value in options.items() if name not in _NAMED}


def stamped(kind: str) -> str:
    """A new name, which says when."""
    return time.strftime(f"{kind}-%Y%m%d-%H%M%S-") + f"{time.time_ns() % 10**6:06d}"


def checkpoint_folder(given: str | Path | None, name: str) -> Path:
    """Where checkpoints go: where a user says, else in a folder of this name."""
    return Path(given) if given is not None else Path("optix_bus_checkpoints") / name


def check_options(settings: Mapping[str, Any]) -> None:
    """Refuse what is no field of `LoopSettings`.

    Raises:
        ConfigurationError: says what was meant, or what to do instead.
    """
    known = [field.name for field in dataclasses.fields(LoopSettings)]
    for key in settings:
        if key in known:
            continue
        if key in _ELSEWHERE:
            raise ConfigurationError(f"RLOptimizer has no option {key!r}: {_ELSEWHERE[key]}")
        close = difflib.get_close_matches(key, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; the options are {', '.join(sorted(known))}"
        raise ConfigurationError(f"RLOptimizer has no option {key!r}{hint}")


def make_controller(
    agent: BaseAgent,
    pipeline: BasePipeline,
    *,
    val_pipeline: BasePipeline | None = None,
    evaluator: BaseEvaluator | None = None,
    optimizer: BaseOptimizer | bool | None = None,
    callbacks: Sequence[LoopCallback] | None = None,
    checkpoint_dir: str | Path | None = None,
    max_snapshots: int = 10,
    checkpoint_score_fn: Callable[[Any], float] | None = None,
    val_episodes: int = 20,
    verbose: bool = False,
    verbose_log_file: str | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    listener: Callable[[Event], None] | None = None,
    quiet: bool = False,
) -> LoopController:
    """A loop that is ready to run. The arguments are those of `RLOptimizer` and `LoopController`.

    Raises:
        ConfigurationError: an unknown option, or one out of range.
        CheckpointError: the folder holds another run's snapshots.
    """
    given = dict(settings or {})
    check_options(given)
    if getattr(pipeline, "is_live", False):
        given.setdefault("keep_watching", True)  # data go on after training is done
    run_id = stamped("run")
    folder = checkpoint_folder(checkpoint_dir, run_id)
    tuning: Any = optimizer
    if optimizer is None or optimizer is True:
        defaults = TuningSettings()

        def tuning(bounds: Any, log_params: Any, rng: Any) -> BaseOptimizer | None:
            return make_optimizer(defaults, bounds, log_params, rng)

    return LoopController(
        agent,
        evaluator if evaluator is not None else ReturnEvaluator(),
        tuning if tuning is not False else None,
        pipeline,
        CheckpointRegistry(folder, max_snapshots, run_id=run_id),
        LoopMachine(LoopSettings(**given), validation=val_pipeline is not None),
        val_pipeline=val_pipeline,
        val_episodes=val_episodes,
        checkpoint_score_fn=checkpoint_score_fn,
        callbacks=callbacks,
        verbose=verbose,
        verbose_log_file=verbose_log_file,
        seed=seed,
        listener=listener,
        quiet=quiet,
    )
