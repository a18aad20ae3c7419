"""Hyperparameters that agents share which learn action values from a replay."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.settings import setting


@dataclass(frozen=True)
class QLearningHyperparameters:
    """Replay, target and clocks. All may be changed while training."""

    learning_rate: float = setting(1e-3, "Step size of Adam.", above=0.0)
    gamma: float = setting(0.99, "Discount of future rewards.", minimum=0.0, maximum=1.0)
    batch_size: int = setting(64, "Transitions in one gradient step.", minimum=1, unit="transitions")
    learning_starts: int = setting(
        1000, "Steps of the environment before learning starts.", minimum=0, unit="steps"
    )
    train_freq: int = setting(
        4, "Steps of the environment between two bouts of learning.", minimum=1, unit="steps"
    )
    gradient_steps: int | None = setting(
        2, "Gradient steps in a bout; null for one for each of its steps.", minimum=1
    )
    target_update_freq: int = setting(
        100,
        "Gradient steps after which the target network takes over the weights.",
        minimum=1,
        unit="gradient steps",
    )
    replay_capacity: int = setting(100_000, "Transitions kept.", minimum=1, unit="transitions")
    n_step: int = setting(1, "Steps of a transition before it bootstraps.", minimum=1, unit="steps")
    per_alpha: float = setting(
        0.0, "How much priorities count in the replay: 0 is uniform.", minimum=0.0, maximum=1.0
    )
    per_beta: float = setting(
        0.4, "How much weights correct for priorities at first.", minimum=0.0, maximum=1.0
    )
    per_beta_steps: int = setting(
        25_000, "Gradient steps over which per_beta rises to 1.", minimum=1, unit="gradient steps"
    )
    max_grad_norm: float = setting(10.0, "Norm to which gradients are cut.", above=0.0)
