"""One card for each algorithm: paper, defaults, bounds, what it fits. Reading them loads no framework."""

from __future__ import annotations

import difflib

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.dqn import DQN
from optix_bus.agents.cards.gaussian_ppo import GAUSSIAN_PPO
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.cards.rainbow import RAINBOW
from optix_bus.agents.cards.recurrent_ppo import RECURRENT_PPO
from optix_bus.agents.cards.sac import SAC
from optix_bus.agents.cards.td3 import TD3
from optix_bus.errors import ConfigurationError
from optix_bus.types import SpaceSpec

CARDS: dict[str, Card] = {
    card.algorithm: card for card in (PPO, DQN, RAINBOW, SAC, TD3, GAUSSIAN_PPO, RECURRENT_PPO, A2C)
}

#: The form for continuous actions of what people call by one name.
_CONTINUOUS = {"ppo": "gaussian_ppo"}


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


def card_for(algorithm: str, spaces: SpaceSpec | None) -> Card:
    """The card of an algorithm for these spaces: some go by one name for discrete and continuous actions.

    Raises:
        ConfigurationError: as `card`.
    """
    continuous = spaces is not None and spaces.action.kind == "box"
    return card(_CONTINUOUS.get(algorithm, algorithm) if continuous else algorithm)


__all__ = ["CARDS", "Card", "algorithms", "card", "card_for"]
