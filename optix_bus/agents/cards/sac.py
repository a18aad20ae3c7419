"""Soft actor-critic, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.off_policy import DEVIATIONS, ContinuousOffPolicyHyperparameters
from optix_bus.settings import setting


@dataclass(frozen=True)
class SACHyperparameters(ContinuousOffPolicyHyperparameters):
    """What may be set, with defaults and bounds. All may be changed while training."""

    learning_rate: float = setting(3e-4, "Step size of Adam.", above=0.0)
    target_entropy: float | None = setting(
        None, "Entropy that the temperature aims at; null for minus the number of action dimensions."
    )
    log_alpha_init: float = setting(0.0, "Logarithm of the temperature that learning starts with.")


SAC = Card(
    algorithm="sac",
    title="Soft Actor-Critic",
    paper="Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications, "
    "https://arxiv.org/abs/1812.05905",
    frameworks=("torch", "tensorflow"),
    hyperparameters=SACHyperparameters,
    bounds={"learning_rate": (1e-4, 1e-3), "gamma": (0.97, 0.999), "tau": (1e-3, 1e-1)},
    log_params=("learning_rate", "tau"),
    observations=("box", "discrete"),
    actions=("box",),
    deviations=(
        "The temperature is learnt on its logarithm, without the factor alpha of equation 18, as in the "
        "authors' code.",
        "The logarithm of the standard deviation is kept in [-5, 2]; the authors keep it in [-20, 2].",
        "Observations and actions go to the critics as they are stored: actions scaled to [-1, 1].",
        *DEVIATIONS,
    ),
    bounded_actions=True,
    is_on_policy=False,
    min_episodes_before_dormant=30,
)
