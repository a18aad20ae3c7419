"""Networks of the wrong size are refused when the agent is made, with both sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optix_bus import (
    RainbowQNetwork,
    TorchDQNAgent,
    TorchGaussianPPOAgent,
    TorchPPOAgent,
    TorchRainbowDQNAgent,
    TorchRecurrentPPOAgent,
    TorchSACAgent,
    TorchTD3Agent,
)
from optix_bus.errors import Unsuitable
from tests.agents.every import BOX
from tests.agents.windows import VECTOR


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def adam(*networks):
    return torch.optim.Adam([p for network in networks for p in network.parameters()], lr=3e-4)


def ppo(actor, critic):
    return TorchPPOAgent(actor, critic, adam(actor, critic), spaces=VECTOR)


def gaussian(actor, critic):
    return TorchGaussianPPOAgent(actor, critic, adam(actor, critic), action_dim=2, spaces=BOX)


def recurrent(rnn, actor_head, critic_head):
    optimizer = adam(rnn, actor_head, critic_head)
    return TorchRecurrentPPOAgent(
        rnn=rnn,
        actor_head=actor_head,
        critic_head=critic_head,
        n_actions=3,
        optimizer=optimizer,
        spaces=VECTOR,
    )


def dqn(q_network):
    return TorchDQNAgent(q_network, 3, adam(q_network), spaces=VECTOR)


def rainbow(q_network):
    return TorchRainbowDQNAgent(q_network, 3, 4, adam(q_network), spaces=VECTOR)


def sac(actor, critic1, critic2):
    return TorchSACAgent(
        actor, critic1, critic2, 2, adam(actor), adam(critic1, critic2),
        torch.optim.Adam([nn.Parameter(torch.zeros(1))]), spaces=BOX,
    )  # fmt: skip


def td3(actor, critic1, critic2):
    return TorchTD3Agent(actor, critic1, critic2, 2, adam(actor), adam(critic1, critic2), spaces=BOX)


@pytest.mark.parametrize(
    ("make", "networks", "numbers"),
    [
        (ppo, lambda: (mlp(4, 2), mlp(4, 1)), ("2", "3")),
        (ppo, lambda: (mlp(5, 3), mlp(4, 1)), ("5", "4")),
        (ppo, lambda: (mlp(4, 3), mlp(4, 2)), ("2", "1")),
        (gaussian, lambda: (mlp(3, 2), mlp(3, 1)), ("2", "4")),
        (recurrent, lambda: (nn.GRU(4, 8), nn.Linear(8, 2), nn.Linear(8, 1)), ("2", "3")),
        (recurrent, lambda: (nn.GRU(4, 8), nn.Linear(9, 3), nn.Linear(8, 1)), ("9", "8")),
        (dqn, lambda: (mlp(4, 2),), ("2", "3")),
        (rainbow, lambda: (RainbowQNetwork.build(4, 2, 8, 51),), ("2", "3")),
        (rainbow, lambda: (RainbowQNetwork.build(4, 3, 8, 21),), ("21", "51")),
        (sac, lambda: (mlp(3, 2), mlp(5, 1), mlp(5, 1)), ("2", "4")),
        (sac, lambda: (mlp(3, 4), mlp(3, 1), mlp(5, 1)), ("3", "5")),
        (td3, lambda: (mlp(3, 4), mlp(5, 1), mlp(5, 1)), ("4", "2")),
        (td3, lambda: (mlp(3, 2), mlp(5, 1), mlp(5, 2)), ("2", "1")),
    ],
)
def test_a_network_of_the_wrong_size_is_refused_with_both_sizes(make, networks, numbers):
    with pytest.raises(Unsuitable) as caught:
        make(*networks())
    said = str(caught.value)
    assert all(number in said for number in numbers), said
    assert any(words in said for words in ("expected", "needs", "does not take")), said
