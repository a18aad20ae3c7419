"""A network whose size nobody can know beforehand is held against the first window, and nothing is learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus import (
    TFAgent,
    TFDQNAgent,
    TFGaussianPPOAgent,
    TFPPOAgent,
    TorchAgent,
    TorchDQNAgent,
    TorchGaussianPPOAgent,
    TorchPPOAgent,
    TorchRainbowDQNAgent,
    TorchSACAgent,
    TorchTD3Agent,
)
from optix_bus.errors import Unsuitable
from tests.agents.every import BOX
from tests.agents.windows import random_window

QUICK = {"learning_starts": 0, "batch_size": 8}


class Own(nn.Module):
    """A network that says nothing of its size; its statistics follow whatever it sees."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.statistics = nn.BatchNorm1d(inputs)
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(self.statistics(x))


class Flat(Own):
    def forward(self, x):
        return super().forward(x).squeeze(-1)


def adam(*modules):
    return torch.optim.Adam([p for module in modules for p in module.parameters()], lr=1e-3)


def window(continuous):
    if not continuous:
        return random_window()
    rng = np.random.default_rng(0)
    observations, following = rng.standard_normal((2, 48, 4, 3)).astype(np.float32)
    actions = rng.uniform(-0.5, 0.5, (48, 4, 2)).astype(np.float32)
    return random_window(observations=observations, final_observations=following, actions=actions)


def sac(actor, one, two):
    alpha = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    return TorchSACAgent(actor, one, two, 2, adam(actor), adam(one, two), alpha, QUICK)


def td3(actor, one, two):
    return TorchTD3Agent(actor, one, two, 2, adam(actor), adam(one, two), QUICK)


TORCH = {
    "ppo": (lambda a, c: TorchPPOAgent(a, c, adam(a, c)), [(4, 3), (4, 1)], [(4, 2), (4, 2)]),
    "gaussian_ppo": (
        lambda a, c: TorchGaussianPPOAgent(a, c, adam(a, c), 2), [(3, 4), (3, 1)], [(3, 3), (3, 2)],
    ),
    "a2c": (lambda a, c: TorchAgent(a, adam(a, c), critic=c), [(4, 3), (4, 1)], [(4, 2), (4, 2)]),
    "dqn": (lambda q: TorchDQNAgent(q, 3, adam(q), QUICK), [(4, 3)], [(4, 2)]),
    "rainbow": (lambda q: TorchRainbowDQNAgent(q, 3, None, adam(q), QUICK), [(4, 153)], [(4, 51)]),
    "sac": (sac, [(3, 4), (5, 1), (5, 1)], [(3, 3), (5, 2), (5, 2)]),
    "td3": (td3, [(3, 2), (5, 1), (5, 1)], [(3, 3), (5, 2), (5, 2)]),
}  # fmt: skip


def everything(networks):
    return [value.clone() for network in networks for value in network.state_dict().values()]


@pytest.mark.parametrize("algorithm", TORCH)
def test_a_network_of_ones_own_in_pytorch_is_refused_with_both_sizes_and_left_as_it_is(algorithm):
    make, right, wrong = TORCH[algorithm]
    data = window(continuous=right[0][0] == 3)
    for place, size in enumerate(wrong):
        sizes = [size if number == place else each for number, each in enumerate(right)]
        networks = [Own(*each) for each in sizes]
        before = everything(networks)
        with pytest.raises(Unsuitable) as caught:
            make(*networks).learn(data)
        said = str(caught.value)
        assert str(size[1]) in said, said
        assert "expected" in said or "but the actor has 2 outputs" in said
        for one, two in zip(everything(networks), before, strict=True):
            assert torch.equal(one, two)
    with pytest.raises(Unsuitable, match=r"(takes?|does not take|expected) .*"):
        make(*(Own(inputs + 1, outputs) for inputs, outputs in right)).learn(data)


def test_a_critic_may_leave_out_the_last_axis():
    actor, critic = Own(4, 3), Flat(4, 1)
    assert (
        TorchPPOAgent(actor, critic, adam(actor, critic), {"n_epochs": 1}).learn(random_window())["updates"]
        > 0
    )


def _keras():
    keras = pytest.importorskip("keras")

    class Mine(keras.Model):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layer = keras.layers.Dense(outputs)
            self(np.zeros((1, inputs), np.float32))

        def call(self, x, training=False):
            return self.layer(x)

    def sequential(inputs, outputs):
        return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])

    return keras.optimizers.Adam, Mine, sequential


@pytest.mark.parametrize("own", [True, False], ids=["own", "sequential"])
def test_so_is_one_of_keras(own):
    adam, mine, sequential = _keras()
    make = mine if own else sequential
    discrete, continuous = window(False), window(True)
    cases = [
        (lambda: TFPPOAgent(make(4, 2), make(4, 1), adam()), discrete, "but the actor has 2 outputs"),
        (
            lambda: TFPPOAgent(make(4, 3), make(4, 2), adam()),
            discrete,
            r"critic gives \[2, 2\] .*expected \[2, 1\]",
        ),
        (
            lambda: TFPPOAgent(make(5, 3), make(4, 1), adam()),
            discrete,
            r"actor does not take observations of shape",
        ),
        (
            lambda: TFGaussianPPOAgent(make(3, 3), make(3, 1), adam(), 2),
            continuous,
            r"gives \[?(2, )?3\]?.* expected \[?(2, )?4",
        ),
        (lambda: TFAgent(make(4, 2), adam()), discrete, "but the actor has 2 outputs"),
        (
            lambda: TFAgent(make(3, 3), adam(), action_dim=2),
            continuous,
            r"gives \[?(2, )?3\]?.* expected \[?(2, )?4",
        ),
        (lambda: TFAgent(make(4, 3), adam(), critic=make(4, 2)), discrete, r"critic gives \[2, 2\]"),
    ]
    if not own:  # a target of one's own class would need get_config
        cases.append(
            (lambda: TFDQNAgent(make(4, 2), 3, adam(), QUICK), discrete, "has 2 outputs, expected 3")
        )
    for build, data, message in cases:
        with pytest.raises(Unsuitable, match=message):
            build().learn(data)


def test_spaces_say_it_when_the_agent_is_made():
    actor, critic = Own(3, 2), Own(3, 1)
    with pytest.raises(Unsuitable, match=r"expected \[2, 4\]"):
        TorchGaussianPPOAgent(actor, critic, adam(actor, critic), 2, spaces=BOX)
