"""Deep Q-learning, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.q_learning import QLearningHyperparameters
from optix_bus.settings import setting


@dataclass(frozen=True)
class DQNHyperparameters(QLearningHyperparameters):
    """What may be set, with defaults and bounds. All may be changed while training."""

    epsilon: float = setting(
        1.0, "Probability of a random action at first; a new value begins anew.", minimum=0.0, maximum=1.0
    )
    epsilon_min: float = setting(0.05, "It falls no further.", minimum=0.0, maximum=1.0)
    epsilon_decay: float = setting(
        0.995, "Factor on epsilon for each epsilon_decay_steps.", above=0.0, maximum=1.0
    )
    epsilon_decay_steps: int = setting(
        20, "Steps of the environment in which epsilon falls by epsilon_decay.", minimum=1, unit="steps"
    )
    double: bool = setting(True, "Choose the next action with the network that learns, not with its target.")


DQN = Card(
    algorithm="dqn",
    title="Deep Q-Network",
    paper="Mnih et al. 2015, Human-level control through deep reinforcement learning, "
    "https://doi.org/10.1038/nature14236; double: van Hasselt et al. 2016, "
    "https://arxiv.org/abs/1509.06461; priorities: Schaul et al. 2016, https://arxiv.org/abs/1511.05952",
    frameworks=("torch", "tensorflow"),
    hyperparameters=DQNHyperparameters,
    bounds={"learning_rate": (1e-4, 1e-3), "gamma": (0.95, 0.999)},
    log_params=("learning_rate",),
    observations=("box", "discrete"),
    actions=("discrete",),
    deviations=(
        "The next action is chosen by the network that learns (double); double: false is the first paper.",
        "Adam instead of RMSProp, and the Huber loss instead of cut errors, which has the same gradient.",
        "A truncated step bootstraps on its final observation; with n_step, fewer steps at an episode's end.",
        "A window's gradient steps are made when it is complete: as many as its steps call for, with the "
        "target network taken over in between where target_update_freq says so.",
        "Epsilon falls exponentially with the steps of the environment; the authors' falls linearly.",
        "Where info['action_mask'] forbids actions, they are neither explored nor the best, here and in what "
        "is bootstrapped on.",
        "New transitions get the greatest priority of all so far, and per_beta rises to 1.",
    ),
    is_on_policy=False,
    min_episodes_before_dormant=60,
)
