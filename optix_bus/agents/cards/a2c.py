"""Advantage actor-critic, and REINFORCE where there is no critic, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.agents.cards.card import Card
from optix_bus.settings import setting


@dataclass(frozen=True)
class A2CHyperparameters:
    """What may be set, with defaults and bounds. All may be changed while training."""

    learning_rate: float = setting(7e-4, "Step size of the optimizer.", above=0.0)
    gamma: float = setting(0.99, "Discount of future rewards.", minimum=0.0, maximum=1.0)
    gae_lambda: float = setting(
        1.0,
        "Trust in long returns against value estimates: 0 one step, 1 the whole return.",
        minimum=0.0,
        maximum=1.0,
    )
    entropy_coef: float = setting(0.01, "Weight of the entropy bonus.", minimum=0.0)
    vf_coef: float = setting(0.5, "Weight of the value loss.", minimum=0.0)
    max_grad_norm: float = setting(0.5, "Norm to which gradients are cut.", above=0.0)
    normalize_advantage: bool = setting(
        False, "Scale the advantages of each window to mean 0 and variance 1."
    )


A2C = Card(
    algorithm="a2c",
    title="Advantage Actor-Critic",
    paper="Mnih et al. 2016, Asynchronous Methods for Deep Reinforcement Learning, "
    "https://arxiv.org/abs/1602.01783; without a critic Williams 1992, Simple Statistical Gradient-Following "
    "Algorithms for Connectionist Reinforcement Learning, https://doi.org/10.1007/BF00992696",
    frameworks=("torch", "tensorflow"),
    hyperparameters=A2CHyperparameters,
    bounds={"learning_rate": (1e-4, 3e-3), "gamma": (0.95, 0.999), "entropy_coef": (0.001, 0.05)},
    log_params=("learning_rate",),
    observations=("box", "discrete"),
    actions=("discrete", "box", "multi_discrete", "multi_binary"),
    deviations=(
        "Environments step together and one update is made from each window, instead of parallel workers; "
        "the paper's 5 steps are the window of the pipeline.",
        "RMSProp keeps its statistics for one learner, there is none to share them with.",
        "Advantages are those of generalised advantage estimation; at gae_lambda 1 they are the paper's.",
        "Where info['action_mask'] forbids actions, they have probability 0 in acting and learning: Huang "
        "and Ontanon 2022, https://arxiv.org/abs/2006.14171.",
        "Policy and value have separate networks unless the user's own network gives both; the paper's share "
        "all but the last layer.",
        "Images are seen by the network of Mnih et al. 2015; the paper's is the smaller one of 2013, "
        "https://arxiv.org/abs/1312.5602.",
    ),
)
