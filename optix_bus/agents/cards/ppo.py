"""Proximal policy optimisation, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.settings import setting


@dataclass(frozen=True)
class PPOHyperparameters:
    """What may be set, with defaults and bounds. All may be changed while training."""

    learning_rate: float = setting(3e-4, "Step size of Adam.", above=0.0)
    clip_ratio: float = setting(
        0.2, "How far the probability ratio may leave 1 before it stops paying.", above=0.0
    )
    entropy_coef: float = setting(0.01, "Weight of the entropy bonus.", minimum=0.0)
    vf_coef: float = setting(0.5, "Weight of the value loss.", minimum=0.0)
    gamma: float = setting(0.99, "Discount of future rewards.", minimum=0.0, maximum=1.0)
    gae_lambda: float = setting(
        0.95,
        "Trust in long returns against value estimates: 0 one step, 1 Monte Carlo.",
        minimum=0.0,
        maximum=1.0,
    )
    n_epochs: int = setting(10, "Passes over each window.", minimum=1)
    minibatch_size: int = setting(64, "Transitions in one gradient step.", minimum=1, unit="transitions")
    max_grad_norm: float = setting(0.5, "Norm to which gradients are cut.", above=0.0)
    target_kl: float | None = setting(
        None,
        "Stop the passes once the policy has moved 1.5 times this far (KL); null never stops.",
        above=0.0,
    )
    normalize_advantage: bool = setting(True, "Scale advantages to mean 0 and variance 1 in each minibatch.")
    clip_value: float | None = setting(
        None,
        "How far a value may leave the old one before it stops paying; null does not limit it.",
        above=0.0,
    )


PPO = Card(
    algorithm="ppo",
    title="Proximal Policy Optimization",
    paper="Schulman et al. 2017, Proximal Policy Optimization Algorithms, https://arxiv.org/abs/1707.06347",
    frameworks=("torch", "tensorflow", "jax"),
    hyperparameters=PPOHyperparameters,
    bounds={
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.95, 0.999),
        "clip_ratio": (0.1, 0.3),
        "entropy_coef": (0.001, 0.05),
    },
    log_params=("learning_rate",),
    observations=("box", "discrete", "dict"),
    actions=("discrete", "multi_discrete", "multi_binary"),
    deviations=(
        "The value loss is the mean squared error, without the factor 1/2 of the authors' code.",
        "Values are not clipped by default; Engstrom et al. 2020, arXiv 2005.12729, found no gain in it.",
        "The clip range and the learning rate are not annealed by themselves.",
        "A truncated step bootstraps on its final observation; the authors' code treats it as a termination.",
        "Policy and value have separate networks; the authors share layers for images.",
        "Where info['action_mask'] forbids actions, they have probability 0 in acting and learning: Huang "
        "and Ontanon 2022, https://arxiv.org/abs/2006.14171.",
        "Observations of several parts (Dict, Tuple) are one vector, in the order of "
        "gymnasium.spaces.flatten.",
        "Policies act in NumPy float32; the learner recomputes the old log-probabilities of a window that "
        "its own version acted, so that the first ratio is exactly 1.",
    ),
)
