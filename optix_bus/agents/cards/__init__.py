"""One card for each algorithm: paper, defaults, bounds, what it fits. Reading them loads no framework."""

from __future__ import annotations

import difflib

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.ppo import PPO
from optix_bus.errors import ConfigurationError

CARDS: dict[str, Card] = {card.algorithm: card for card in (PPO,)}


def algorithms() -> tuple[str, ...]:
    """Names of all algorithms."""
    return tuple(CARDS)


def card(algorithm: str) -> Card:
    """The card of an algorithm.

    Raises:
        ConfigurationError: there is none of that name; says which name was probably meant.
    """
    if algorithm in CARDS:
        return CARDS[algorithm]
    close = difflib.get_close_matches(algorithm.lower(), CARDS, n=1)
    meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(CARDS)}"
    raise ConfigurationError(f"unknown algorithm {algorithm!r}; {meant}")


__all__ = ["CARDS", "Card", "algorithms", "card"]
