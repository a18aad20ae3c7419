"""Hyperparameters of an agent: defaults from its card, checked, put into force at once or not at all.

A number may be a `optix_bus.rl.schedules.Schedule`. Inside the agent ``params`` then holds the number of this
moment; outside, `HyperparamSet.copy` shows one number for the whole schedule, its level, which does not move.
Setting another number there, as a tuner does, stretches the schedule by as much: the tuner says how high, the
schedule says how it goes on. Setting a schedule replaces the one before; ``Schedule.constant`` ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optix_bus.agents.cards import Card
from optix_bus.errors import ConfigurationError
from optix_bus.rl.schedules import CLOCKS, Schedule
from optix_bus.types import HyperparamSet


@dataclass
class HyperparamsInForce(HyperparamSet):
    """The hyperparameters of an agent at this moment.

    Attributes:
        params: every hyperparameter of the card, schedules as their number of now.
        levels: the same, schedules as their level.
        schedules: by name.
        clocks: what the agent has counted, by the names of `CLOCKS`.
    """

    levels: dict[str, Any] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0))

    def copy(self) -> HyperparamSet:
        """What others see and may set again: the levels."""
        return HyperparamSet(dict(self.levels), self.episode_id, self.timestamp)


def complete(
    card: Card, given: HyperparamSet | Mapping[str, Any] | None, learning_rate: float | None = None
) -> HyperparamsInForce:
    """Every hyperparameter of the card: what was given, otherwise the default.

    Args:
        card: of the algorithm.
        given: a set, a plain mapping or nothing.
        learning_rate: that of the user's own optimizer; it counts where ``given`` says none.

    Raises:
        ConfigurationError: unknown names, wrong types, values out of range.
    """
    params = _params(given)
    defaults = card.defaults()
    if learning_rate is not None:
        defaults["learning_rate"] = learning_rate
    return _in_force(card, defaults, {}, card.check(params), dict.fromkeys(CLOCKS, 0), _stamp(given))


def changed(
    card: Card, current: HyperparamSet, given: HyperparamSet | Mapping[str, Any]
) -> HyperparamsInForce:
    """The current set with the given values in place of its own; names that are not given stay.

    Raises:
        ConfigurationError: as `complete`; the current set is never half changed.
    """
    checked = card.check(_params(given))
    if not isinstance(current, HyperparamsInForce):
        return _in_force(card, current.params, {}, checked, dict.fromkeys(CLOCKS, 0), _stamp(given))
    return _in_force(card, current.levels, current.schedules, checked, current.clocks, _stamp(given))


def at_clocks(card: Card, current: HyperparamSet, clocks: Mapping[str, int]) -> HyperparamsInForce:
    """The same hyperparameters at other times: schedules move on, everything else stays."""
    assert isinstance(current, HyperparamsInForce)
    counted = {name: int(clocks.get(name, 0)) for name in CLOCKS}
    stamp = (current.episode_id, current.timestamp)
    return _in_force(card, current.levels, current.schedules, {}, counted, stamp)


def _in_force(
    card: Card,
    levels: Mapping[str, Any],
    schedules: Mapping[str, Schedule],
    given: Mapping[str, Any],
    clocks: dict[str, int],
    stamp: tuple[int, float] | None,
) -> HyperparamsInForce:
    new = {name: value for name, value in given.items() if isinstance(value, Schedule)}
    # What is given as nothing, or as constant, is scheduled no longer.
    over = {name for name, value in given.items() if value is None}
    over |= {name for name, way in new.items() if way.schedule == "constant"}
    ways = {name: way for name, way in {**schedules, **new}.items() if name not in over}
    heights = {**levels, **given}
    for name, way in new.items():
        heights[name] = card.scheduled(name, way.level)
    now = {
        name: card.scheduled(name, way.at(clocks[way.clock], float(heights[name])))
        for name, way in ways.items()
    }
    made = HyperparamsInForce({**heights, **now}, levels=heights, schedules=ways, clocks=dict(clocks))
    if stamp:
        made.episode_id, made.timestamp = stamp
    return made


def _params(given: HyperparamSet | Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, HyperparamsInForce):
        return {**given.levels, **given.schedules}
    params = given.params if isinstance(given, HyperparamSet) else given
    if not isinstance(params, Mapping):
        raise ConfigurationError(
            f"found hyperparameters of type {type(given).__name__}, expected a HyperparamSet or a dict"
        )
    return dict(params)


def _stamp(given: object) -> tuple[int, float] | None:
    return (given.episode_id, given.timestamp) if isinstance(given, HyperparamSet) else None
