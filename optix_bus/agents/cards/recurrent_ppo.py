"""Proximal policy optimisation with a memory, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.ppo import PPO, PPOHyperparameters
from optix_bus.settings import setting


@dataclass(frozen=True)
class RecurrentPPOHyperparameters(PPOHyperparameters):
    """Those of PPO, with what belongs to a memory. All may be changed while training."""

    n_epochs: int = setting(4, "Passes over each window.", minimum=1)
    minibatch_size: int = setting(
        64,
        "Transitions in one gradient step, as whole sequences, at least one.",
        minimum=1,
        unit="transitions",
    )
    bptt_len: int = setting(
        16, "Steps of a sequence, through which gradients flow back.", minimum=1, unit="steps"
    )


RECURRENT_PPO = Card(
    algorithm="recurrent_ppo",
    title="Recurrent Proximal Policy Optimization",
    paper="Schulman et al. 2017, Proximal Policy Optimization Algorithms, https://arxiv.org/abs/1707.06347, "
    "section 5 (a recurrent policy uses truncated segments); memories of Cho et al. 2014, "
    "https://arxiv.org/abs/1406.1078, and Hochreiter and Schmidhuber 1997",
    frameworks=("torch",),
    hyperparameters=RecurrentPPOHyperparameters,
    bounds=PPO.bounds,
    log_params=PPO.log_params,
    observations=("box", "discrete"),
    actions=("discrete",),
    deviations=(
        *PPO.deviations[:4],
        "Policy and value share one memory, and what sees images in front of it, and have a head each.",
        "The memory before each sequence is recomputed once for each window, with the weights before the "
        "update, from the memory that the window was acted with; it is not recomputed between epochs.",
        "Minibatches hold whole sequences of bptt_len steps, cut where episodes begin, not rows.",
    ),
    memories=("gru", "lstm"),
    min_episodes_before_dormant=20,
)
