"""Rainbow, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.q_learning import QLearningHyperparameters
from optix_bus.settings import setting


@dataclass(frozen=True)
class RainbowHyperparameters(QLearningHyperparameters):
    """What may be set, with defaults and bounds. All but n_atoms may be changed while training."""

    learning_rate: float = setting(5e-4, "Step size of Adam.", above=0.0)
    batch_size: int = setting(32, "Transitions in one gradient step.", minimum=1, unit="transitions")
    target_update_freq: int = setting(
        200,
        "Gradient steps after which the target network takes over the weights.",
        minimum=1,
        unit="gradient steps",
    )
    n_step: int = setting(3, "Steps of a transition before it bootstraps.", minimum=1, unit="steps")
    per_alpha: float = setting(
        0.5, "How much priorities count in the replay: 0 is uniform.", minimum=0.0, maximum=1.0
    )
    n_atoms: int = setting(51, "Atoms of the distribution of returns; as the network has.", minimum=2)
    v_min: float = setting(-10.0, "Return of the lowest atom: no return should lie below it.")
    v_max: float = setting(10.0, "Return of the highest atom: no return should lie above it.")


RAINBOW = Card(
    algorithm="rainbow",
    title="Rainbow",
    paper="Hessel et al. 2018, Rainbow: Combining Improvements in Deep Reinforcement Learning, "
    "https://arxiv.org/abs/1710.02298",
    frameworks=("torch",),
    hyperparameters=RainbowHyperparameters,
    bounds={"learning_rate": (1e-4, 1e-3), "gamma": (0.95, 0.999)},
    log_params=("learning_rate",),
    observations=("box", "discrete"),
    actions=("discrete",),
    deviations=(
        "Defaults are for small networks on vectors; the paper's are for Atari (learning rate 6.25e-5, "
        "32,000 frames between takeovers).",
        "The common linear layers of vectors are not noisy; both layers of each stream are. Images pass "
        "convolutions alone before the streams, as in the paper.",
        "Priorities are the divergence from the target distribution, per_beta rises to 1.",
        "Rows of a batch of environments act under noise of their own; the rows of a gradient step share it.",
        "A truncated step bootstraps on its final observation; fewer steps at an episode's end.",
        "Where info['action_mask'] forbids actions, they are neither explored nor the best, here and in what "
        "is bootstrapped on.",
        "Adam has the framework's epsilon, 1e-8; the paper has 1.5e-4.",
    ),
    is_on_policy=False,
    min_episodes_before_dormant=60,
)
