"""The plan of a search over the settings of a topology, and what each trial and the result make of it.

RUN/tune.json        the plan
RUN/topology.yaml    the topology that is tuned
RUN/study.journal    the study, unless it lies elsewhere
RUN/trials/0007/     the run of a trial: journal, checkpoints, record
RUN/logs/            what the workers said
RUN/best.yaml        the topology with the best settings
RUN/trials.json      the table
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.agents.cards import CARDS
from optix_bus.errors import ConfigurationError
from optix_bus.loop.settings import LoopSettings
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.runtime.problems import Problem, TopologyError
from optix_bus.runtime.topology import Topology, load_topology
from optix_bus.runtime.topology_classes import load_object
from optix_bus.trials.course import Budget
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.storage import import_optuna
from optix_bus.trials.study import TrialStudy

_PLAN = "tune.json"


class TunePlan(msgspec.Struct, kw_only=True):
    """What a search tries; written once, read by every worker and by whoever takes it up again.

    Attributes:
        name: of the topology, and of the study.
        seed: of the sampler; trial n is run with seed + n.
        trials: how many in the whole study.
        workers: how many at the same time.
        steps, warmup_steps, prune, startup_trials: as in `TuneSettings`.
        space: what is searched, by path in the topology.
        storage: where the study lies; empty for a journal in the folder of the search.
        settings: overrides that every trial has, so that it is short, leaves little, and is not tuned inside.
    """

    name: str
    seed: int
    trials: int
    workers: int
    steps: int
    warmup_steps: int | None
    prune: bool
    startup_trials: int
    space: dict[str, list[Any]]
    storage: str
    settings: list[str]

    @classmethod
    def of(cls, topology: Topology, *, storage: str | None = None, **given: Any) -> TunePlan:
        """The plan for a topology.

        Args:
            topology: with its section ``tune``.
            storage: elsewhere than in that folder.
            given: options of ``tune`` that were given on the command line; None leaves the file's.

        Raises:
            ConfigurationError: nothing to search, or a space that is none.
            TopologyError: a value at an end of the space is refused by the topology.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        section = dataclasses.asdict(topology.tune) | chosen
        space = _space(topology, section.pop("space"))
        plan = cls(
            name=topology.name,
            seed=topology.seed,
            space=space.plain(),
            storage=_absolute(storage),
            settings=_settings_of_a_trial(topology, section["steps"]),
            **section,
        )
        plan.check(topology)
        return plan

    @classmethod
    def read(cls, run: Path) -> TunePlan:
        """The plan of a search.

        Raises:
            ConfigurationError: the folder holds none, or a damaged one.
        """
        try:
            return msgspec.json.decode((run / _PLAN).read_bytes(), type=cls)
        except FileNotFoundError:
            raise ConfigurationError(f"{run} holds no search (no {_PLAN} in it)") from None
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{run / _PLAN} is damaged: {error}") from error

    def write(self, run: Path) -> None:
        """Write it beside and rename."""
        beside = run / f"{_PLAN}.new"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        beside.replace(run / _PLAN)

    def check(self, topology: Topology) -> None:
        """Try every end of the space on the topology.

        Raises:
            TopologyError: with all that it refuses.
        """
        problems: list[Problem] = []
        for name, dimension in ParamSpace(self.space).items():
            for end in dimension.ends():
                overrides = (*topology.overrides, override(name, end))
                try:
                    load_topology(topology.path, overrides, build_environment=False)
                except TopologyError as error:
                    problems += error.problems
        if problems:
            raise TopologyError(list(dict.fromkeys(problems)))

    def study(self, run: Path) -> TrialStudy:
        """The study, opened; ``run`` is the folder of the search, wherever it has been moved to."""
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the table of the search says the same
        budget = Budget.of(self.steps, None, self.warmup_steps)
        return TrialStudy(
            ParamSpace(self.space),
            budget,
            self.storage or run / "study.journal",
            name=self.name,
            seed=self.seed,
            startup=self.startup_trials,
            prune=self.prune,
        )

    def overrides(self, number: int, params: Mapping[str, Any]) -> list[str]:
        """What makes the tuned topology the one of a trial."""
        chosen = [override(name, value) for name, value in params.items()]
        return [*self.settings, *chosen, f"seed={self.seed + number}"]

    def result(self, run: Path, params: Mapping[str, Any]) -> str:
        """The tuned topology with these settings, as text."""
        topology = load_topology(run / "topology.yaml", build_environment=False)
        return topology.rewrite(*(override(name, value) for name, value in params.items()))


def override(path: str, value: Any) -> str:
    """An argument as for ``--set``; JSON is YAML."""
    return f"{path}={json.dumps(value)}"


def _absolute(storage: str | None) -> str:
    """A path that holds from every folder; URLs as they are."""
    if not storage:
        return ""
    return storage if "://" in storage else str(Path(storage).resolve())


def _space(topology: Topology, given: Mapping[str, Any]) -> ParamSpace:
    """The space by paths in the topology; a name without dots is one of the agent's."""
    section = "arguments" if topology.agent.class_ is not None else "hyperparameters"
    if given:
        named = ParamSpace(given)
        paths = {_path(name, section): dimension for name, dimension in named.items()}
        return ParamSpace(paths)  # type: ignore[arg-type]  # dimensions are taken as they are
    found = _own_bounds(topology)
    return ParamSpace({f"agent.{section}.{name}": dimension for name, dimension in found.items()})  # type: ignore[misc]


def _path(name: str, section: str) -> str:
    return name if "." in name else f"agent.{section}.{name}"


def _own_bounds(topology: Topology) -> ParamSpace:
    """What the algorithm, or the user's own agent, says can be searched; schedules are left as they are."""
    agent = topology.agent
    if agent.class_ is None:
        card = CARDS[str(agent.algorithm)]
        bounds: Mapping[str, Any] = card.bounds
        log_params, params, chosen = tuple(card.log_params), card.defaults(), agent.hyperparameters
    else:
        made = load_object(agent.class_)
        accepted = inspect.signature(made).parameters
        own = getattr(made, "default_param_bounds", {})
        bounds = {name: own[name] for name in own if name in accepted}
        log_params = tuple(getattr(made, "default_log_params", ()))
        params, chosen = {name: p.default for name, p in accepted.items()}, agent.arguments
    scheduled = {name for name, value in chosen.items() if isinstance(value, Mapping)}
    free = {name: ends for name, ends in bounds.items() if name not in scheduled}
    if not free:
        raise ConfigurationError(
            "there is nothing to search: the agent brings no bounds; say what to try in the topology, e.g.\n"
            "  tune:\n    space:\n      nodes.pipeline.window_steps: [categorical, 128, 256, 512]"
        )
    return ParamSpace.from_bounds(free, log_params, {**params, **chosen})


def _settings_of_a_trial(topology: Topology, steps: int) -> list[str]:
    settings = []
    for entry in topology.nodes:
        place = f"nodes.{entry.name}"
        if isinstance(entry.settings, LoopSettings):
            settings += [f"{place}.max_steps={steps}", f"{place}.keep_watching=false"]
            if hasattr(entry.settings, "cut_windows"):
                settings.append(f"{place}.cut_windows=0")
        if isinstance(entry.settings, TuningSettings):
            settings.append(f"{place}.method=none")
        if hasattr(entry.settings, "max_snapshots"):
            settings.append(f"{place}.max_snapshots=1")
    if not any(".max_steps=" in each for each in settings):
        raise ConfigurationError(
            "no node of the topology ends a trial after its steps: a scheduler with the setting max_steps is "
            "needed, for example nodes.scheduler:SchedulerNode"
        )
    return [*settings, "run.record=events"]
