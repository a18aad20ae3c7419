"""Twin delayed DDPG, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.off_policy import DEVIATIONS, ContinuousOffPolicyHyperparameters
from optix_bus.settings import setting


@dataclass(frozen=True)
class TD3Hyperparameters(ContinuousOffPolicyHyperparameters):
    """What may be set, with defaults and bounds. All may be changed while training."""

    learning_rate: float = setting(1e-3, "Step size of Adam.", above=0.0)
    policy_delay: int = setting(
        2, "Gradient steps of the critics for one of the actor and the targets.", minimum=1
    )
    exploration_noise: float = setting(
        0.1, "Standard deviation of acting, as a share of half the range of an action.", minimum=0.0
    )
    target_noise: float = setting(
        0.2, "Standard deviation of the noise on target actions, in the same unit.", minimum=0.0
    )
    target_noise_clip: float = setting(0.5, "Bound of that noise, in the same unit.", minimum=0.0)


TD3 = Card(
    algorithm="td3",
    title="Twin Delayed DDPG",
    paper="Fujimoto et al. 2018, Addressing Function Approximation Error in Actor-Critic Methods, "
    "https://arxiv.org/abs/1802.09477",
    frameworks=("torch", "tensorflow"),
    hyperparameters=TD3Hyperparameters,
    bounds={"learning_rate": (1e-4, 1e-3), "gamma": (0.97, 0.999), "tau": (1e-3, 1e-1)},
    log_params=("learning_rate", "tau"),
    observations=("box", "discrete"),
    actions=("box",),
    deviations=(
        "Networks are 400 x 300 as in the paper and the public benchmark tables; the authors' code has "
        "256 x 256.",
        "The learning rate is 1e-3 as in the paper; the authors' code has 3e-4.",
        "Learning starts after 100 random steps by default; the authors wait for 25,000.",
        "Actions go to the critics scaled to [-1, 1]; noises are shares of half the range of each action.",
        *DEVIATIONS,
    ),
    bounded_actions=True,
    is_deterministic=True,
    is_on_policy=False,
    min_episodes_before_dormant=30,
)
