"""Hyperparameters of an agent: defaults from its card, checked, put into force at once or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optix_bus.agents.cards import Card
from optix_bus.errors import ConfigurationError
from optix_bus.types import HyperparamSet


def complete(
    card: Card, given: HyperparamSet | Mapping[str, Any] | None, learning_rate: float | None = None
) -> HyperparamSet:
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
    checked = card.check(params)
    return HyperparamSet({**defaults, **checked}, *_stamp(given))


def changed(card: Card, current: HyperparamSet, given: HyperparamSet | Mapping[str, Any]) -> HyperparamSet:
    """The current set with the given values in place of its own; names that are not given stay.

    Raises:
        ConfigurationError: as `complete`; the current set is never half changed.
    """
    return HyperparamSet({**current.params, **card.check(_params(given))}, *_stamp(given))


def _params(given: HyperparamSet | Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    params = given.params if isinstance(given, HyperparamSet) else given
    if not isinstance(params, Mapping):
        raise ConfigurationError(
            f"found hyperparameters of type {type(given).__name__}, expected a HyperparamSet or a dict"
        )
    return dict(params)


def _stamp(given: object) -> tuple[Any, ...]:
    return (given.episode_id, given.timestamp) if isinstance(given, HyperparamSet) else ()
