"""What a card is: everything about an algorithm that can be said without running it."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optix_bus.agents.images import image_misfit
from optix_bus.errors import ConfigurationError
from optix_bus.rl.schedules import Schedule
from optix_bus.types import SpaceSpec


@dataclass(frozen=True)
class Card:
    """An algorithm on paper; no framework is needed to read it.

    Attributes:
        algorithm: its name in topologies and in ``make_agent``.
        title: its name for people.
        paper: what was implemented, with a link.
        frameworks: for which of them it exists.
        hyperparameters: a frozen dataclass whose fields are `optix_bus.settings.setting`.
        bounds: range for each hyperparameter that tuners may move.
        log_params: those of them that live on a logarithmic scale.
        observations, actions: kinds of spaces that fit, as in `optix_bus.types.ArraySpec.kind`.
        deviations: where the implementation departs from the paper or the authors' code, and why.
        bounded_actions: whether box actions need finite bounds, to be scaled to them.
        is_deterministic: whether the policy itself is, apart from the noise that explores.
        is_on_policy: whether it learns only from what its newest policy did.
        memories: kinds of memory that it may have, the default first; none where it remembers nothing.
        min_episodes_before_dormant: evaluations before the loop may call it converged.
    """

    algorithm: str
    title: str
    paper: str
    frameworks: tuple[str, ...]
    hyperparameters: type
    bounds: Mapping[str, tuple[float, float]]
    log_params: tuple[str, ...]
    observations: tuple[str, ...]
    actions: tuple[str, ...]
    deviations: tuple[str, ...]
    bounded_actions: bool = False
    is_deterministic: bool = False
    is_on_policy: bool = True
    min_episodes_before_dormant: int = 0
    memories: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Every hyperparameter with its default."""
        return {f.name: f.default for f in dataclasses.fields(self.hyperparameters)}

    def fits(self, spaces: SpaceSpec) -> str | None:
        """None where the algorithm fits the environment, otherwise why not and what would."""
        problems = []
        observation, action = spaces.observation, spaces.action
        if observation.kind not in self.observations:
            problems.append(f"observations are {observation.kind}, expected {_either(self.observations)}")
        elif observation.kind == "box" and len(observation.shape) != 1:
            misfit = image_misfit(observation)
            problems += [] if misfit is None else [misfit]
        if action.kind not in self.actions:
            problems.append(f"actions are {action.kind}, expected {_either(self.actions)}")
        elif action.kind == "box" and not action.dtype.startswith("float"):
            problems.append(
                f"actions are whole numbers ({action.dtype}), expected real ones, or discrete ones"
            )
        elif action.kind == "box" and self.bounded_actions and not action.low:
            problems.append(
                "actions have no finite bounds, expected a Box with low and high; wrap the environment in "
                "gymnasium.wrappers.RescaleAction or ClipAction"
            )
        if not problems:
            return None
        return f"{self.algorithm} does not fit {spaces.environment}: {'; '.join(problems)}"

    def problems(self, params: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with each of these hyperparameters, by name; empty where all is well."""
        found: dict[str, str] = {}
        kinds = typing.get_type_hints(self.hyperparameters)
        fields = {f.name: f for f in dataclasses.fields(self.hyperparameters)}
        for name, value in params.items():
            if name not in fields:
                found[name] = f"unknown hyperparameter {name!r} of {self.algorithm}{self._meant(name)}"
                continue
            if isinstance(value, Schedule | Mapping):
                problem = _schedule_misfit(value, kinds[name], fields[name].metadata)
                if problem:
                    found[name] = f"schedule of {name} of {self.algorithm}: {problem}"
                continue
            problem = _misfit(value, kinds[name], fields[name].metadata)
            if problem:
                found[name] = f"hyperparameter {name} of {self.algorithm} is {value!r}, expected {problem}"
        return found

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The same hyperparameters in their declared types (a whole float becomes an int where one is due).

        A schedule may stand for any number, as a `Schedule` or as a mapping, and comes back as a `Schedule`.

        Raises:
            ConfigurationError: names every unknown name, wrong type and value out of range at once.
        """
        problems = self.problems(params)
        if problems:
            raise ConfigurationError("; ".join(problems.values()))
        kinds = typing.get_type_hints(self.hyperparameters)
        return {
            name: Schedule.read(value)
            if isinstance(value, Schedule | Mapping)
            else _convert(value, kinds[name])
            for name, value in params.items()
        }

    def broken_end(self, name: str, schedule: Schedule) -> tuple[str, str] | None:
        """Which end of a schedule is out of range, ``from`` or ``to``, and how; None where neither is."""
        field = next(f for f in dataclasses.fields(self.hyperparameters) if f.name == name)
        kind = typing.get_type_hints(self.hyperparameters)[name]
        return _broken_end(schedule, kind, field.metadata)

    def can_be_scheduled(self, name: str) -> bool:
        """Whether the hyperparameter of this name is a number."""
        return bool({int, float} & set(_alternatives(typing.get_type_hints(self.hyperparameters)[name])))

    def scheduled(self, name: str, value: float) -> Any:
        """A number that a schedule gave, kept inside the bounds and rounded where only whole numbers fit."""
        field = next(f for f in dataclasses.fields(self.hyperparameters) if f.name == name)
        low, high = _ends(field.metadata)
        inside = min(max(value, low), high)
        whole = int in _alternatives(typing.get_type_hints(self.hyperparameters)[name])
        return round(inside) if whole else inside

    def _meant(self, name: str) -> str:
        known = [f.name for f in dataclasses.fields(self.hyperparameters)]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _misfit(value: Any, kind: Any, metadata: Mapping[str, Any]) -> str:
    """What was expected instead of this value; empty where it fits."""
    kinds = _alternatives(kind)
    if value is None and type(None) in kinds:
        return ""
    if bool in kinds:
        return "" if isinstance(value, bool) else "true or false"
    whole = int in kinds
    what = "a whole number" if whole else "a number"
    limits = _limits(metadata)
    wanted = f"{what} {limits}".strip() + (" or null" if type(None) in kinds else "")
    if isinstance(value, bool):
        return wanted
    try:
        number = float(value) if not isinstance(value, str) else math.nan
    except (TypeError, ValueError):
        return wanted
    if not math.isfinite(number) or (whole and number != int(number)) or not _inside(number, metadata):
        return wanted
    return ""


def _schedule_misfit(given: Schedule | Mapping[str, Any], kind: Any, metadata: Mapping[str, Any]) -> str:
    """What is wrong with a schedule in the place of a number; empty where it fits."""
    if not {int, float} & set(_alternatives(kind)):
        return "it is no number and cannot be scheduled"
    try:
        schedule = Schedule.read(given)
    except (TypeError, ValueError) as error:
        return str(error)
    wrong = _broken_end(schedule, kind, metadata)
    return f"{wrong[0]!r} is {wrong[1]}" if wrong else ""


def _broken_end(schedule: Schedule, kind: Any, metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """``from`` or ``to`` and what is wrong with it, or None."""
    if schedule.schedule == "constant":
        wanted = _misfit(schedule.from_, kind, metadata)
        return ("from", f"{schedule.from_}, expected {wanted}") if wanted else None
    low, high = _ends(metadata)
    for word, end in zip(("from", "to"), schedule.ends, strict=True):
        if not low <= end <= high:
            return word, f"{end}, expected {_limits(metadata)}"
    return None


def _ends(metadata: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest value on the way of a schedule: it may end on a bound that a number may only near,
    as a learning rate that falls to 0."""
    lows = [metadata[key] for key in ("minimum", "above") if metadata.get(key) is not None]
    highs = [metadata[key] for key in ("maximum", "below") if metadata.get(key) is not None]
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def _inside(number: float, metadata: Mapping[str, Any]) -> bool:
    low, high, above, below = (metadata[key] for key in ("minimum", "maximum", "above", "below"))
    return not (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    )


def _limits(metadata: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "above": "above", "maximum": "at most", "below": "below"}
    return " and ".join(f"{word} {metadata[key]}" for key, word in words.items() if metadata[key] is not None)


def _convert(value: Any, kind: Any) -> Any:
    kinds = _alternatives(kind)
    if value is None or bool in kinds:
        return value
    return int(value) if int in kinds else float(value)


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)
