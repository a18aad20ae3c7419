"""Proximal policy optimisation for continuous actions, on paper."""

from __future__ import annotations

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.ppo import PPO, PPOHyperparameters

GAUSSIAN_PPO = Card(
    algorithm="gaussian_ppo",
    title="Proximal Policy Optimization with a Gaussian policy",
    paper=PPO.paper,
    frameworks=("torch", "tensorflow"),
    hyperparameters=PPOHyperparameters,
    bounds=PPO.bounds,
    log_params=PPO.log_params,
    observations=("box", "discrete", "dict"),
    actions=("box",),
    deviations=(
        *PPO.deviations,
        "Observations and rewards are normalised by running statistics, as in Engstrom et al. 2020, "
        "arXiv 2005.12729; those of a window are used from the next one on, so that acting and learning see "
        "the same numbers.",
        "Where actions are bounded, means of -1 to 1 span the bounds, also asymmetric ones, and the standard "
        "deviation, one for each number and no function of the observation, begins at half of that reach: "
        "Andrychowicz et al. 2021, arXiv 2006.05990, section 3.2.",
        "The normal distribution is neither squashed nor cut: the window keeps the sample, whose density the "
        "ratio is made of, and the environment is sent the sample clipped to its bounds. Log-probabilities "
        "are densities in the units of the environment.",
    ),
)
