"""What off-policy agents for continuous actions share on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.settings import setting

#: Where all of them depart from their papers.
DEVIATIONS = (
    "Images, which the paper has none of, get the convolutions of Mnih et al. 2015, "
    "https://doi.org/10.1038/nature14236, in each of the networks; actions join the critics behind them.",
    "A truncated step bootstraps on its final observation.",
    "A window's gradient steps are made when it is complete; the policy that acts is that of the last "
    "window.",
    "Random actions end with the first window that reaches learning_starts.",
)


@dataclass(frozen=True)
class ContinuousOffPolicyHyperparameters:
    """Replay, targets and clocks. All may be changed while training."""

    gamma: float = setting(0.99, "Discount of future rewards.", minimum=0.0, maximum=1.0)
    tau: float = setting(
        0.005, "Share of the way that targets go to their critics in a gradient step.", above=0.0, maximum=1.0
    )
    batch_size: int = setting(256, "Transitions in one gradient step.", minimum=1, unit="transitions")
    learning_starts: int = setting(
        100, "Steps of uniformly random actions before learning starts.", minimum=0, unit="steps"
    )
    train_freq: int = setting(
        1, "Steps of the environment between two bouts of learning.", minimum=1, unit="steps"
    )
    gradient_steps: int | None = setting(
        None, "Gradient steps in a bout; null for updates_per_step for each of its steps.", minimum=1
    )
    updates_per_step: int = setting(
        1, "Gradient steps for each step of the environment, where gradient_steps is null.", minimum=1
    )
    replay_capacity: int = setting(1_000_000, "Transitions kept.", minimum=1, unit="transitions")
    n_step: int = setting(1, "Steps of a transition before it bootstraps.", minimum=1, unit="steps")
    per_alpha: float = setting(
        0.0, "How much priorities count in the replay: 0 is uniform.", minimum=0.0, maximum=1.0
    )
    per_beta: float = setting(
        0.4, "How much weights correct for priorities at first.", minimum=0.0, maximum=1.0
    )
    per_beta_steps: int = setting(
        100_000, "Gradient steps over which per_beta rises to 1.", minimum=1, unit="gradient steps"
    )
