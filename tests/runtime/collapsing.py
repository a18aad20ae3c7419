"""PPO whose policy collapses at a known window, for tests of what the loop does about it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from optix_bus import TorchPPOAgent
from optix_bus.types import EpisodeData


class Collapsing(TorchPPOAgent):
    """PPO for CartPole. Learning from one window is followed by noise many times as large as the weights.

    It is the window's number that says when, and no count of the agent's own: a policy that is rolled back
    does not collapse again.
    """

    def __init__(self, at: int, noise: float = 5.0, seed: int = 0, learning_rate: float = 2e-3) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            actor = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
            critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
        parameters = [*actor.parameters(), *critic.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=learning_rate)
        hyperparams = {"minibatch_size": 128, "entropy_coef": 0.0}
        super().__init__(actor, critic, optimizer, hyperparams, device="cpu", seed=seed)
        self._at, self._noise = at, noise

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        diagnostics = super().learn(episode_data)
        if episode_data.episode_id == self._at:
            self.perturb_weights(self._noise)
        return diagnostics
