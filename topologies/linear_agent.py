"""An agent of one's own: the six methods, nothing else. A linear softmax policy, trained by REINFORCE.

`custom_agent.yaml` names it as ``linear_agent:LinearAgent``; modules beside a topology can be imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet


class LinearAgent(BaseAgent):
    """Policy gradient on the discounted return from each step, against the mean as a baseline.

    Args:
        observations: length of an observation vector.
        actions: number of discrete actions.
        learning_rate: of Adam.
        gamma: discount.
        seed: of the exploration.
    """

    def __init__(
        self, observations: int, actions: int, learning_rate: float = 0.05, gamma: float = 0.99, seed: int = 0
    ) -> None:
        self.weights = np.zeros((observations + 1, actions))
        self.moments = [np.zeros_like(self.weights), np.zeros_like(self.weights)]
        self.updates = 0
        self.params: dict[str, Any] = {"learning_rate": learning_rate, "gamma": gamma}
        self.rng = np.random.default_rng(seed)

    def act(self, observation: Any) -> int:
        """A sample from the softmax."""
        return int(self.rng.choice(self.weights.shape[1], p=self._probabilities(np.asarray(observation))))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """One Adam step on the policy gradient of the window."""
        observations = np.asarray(episode_data.observations, float).reshape(-1, self.weights.shape[0] - 1)
        actions = np.asarray(episode_data.actions).reshape(-1)
        returns = self._returns(np.asarray(episode_data.rewards, float), episode_data.dones).reshape(-1)
        advantages = (returns - returns.mean()) / (returns.std() + 1e-8)
        inputs = np.hstack([observations, np.ones((len(observations), 1))])
        chosen = np.eye(self.weights.shape[1])[actions]
        probabilities = self._probabilities(observations)
        gradient = inputs.T @ ((chosen - probabilities) * advantages[:, None]) / len(inputs)
        self._ascend(gradient)
        entropy = float(-(probabilities * np.log(probabilities + 1e-12)).sum(1).mean())
        return {"gradient_norm": float(np.linalg.norm(gradient)), "entropy": entropy}

    def get_hyperparams(self) -> HyperparamSet:
        """Learning rate and discount."""
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Take other values into force."""
        self.params = {**self.params, **hyperparams.params}

    def save_weights(self, path: str) -> None:
        """One NumPy file."""
        with Path(path).open("wb") as file:
            np.save(file, self.weights)

    def load_weights(self, path: str) -> None:
        """What `save_weights` wrote."""
        with Path(path).open("rb") as file:
            self.weights = np.load(file)

    def _probabilities(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = observations @ self.weights[:-1] + self.weights[-1]
        scaled = np.exp(logits - logits.max(-1, keepdims=True))
        shares: np.ndarray[Any, Any] = scaled / scaled.sum(-1, keepdims=True)
        return shares

    def _returns(self, rewards: np.ndarray[Any, Any], ended: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        returns = np.zeros_like(rewards)
        following = np.zeros_like(rewards[0])
        for step in reversed(range(len(rewards))):
            following = rewards[step] + self.params["gamma"] * following * ~ended[step]
            returns[step] = following
        return returns

    def _ascend(self, gradient: np.ndarray[Any, Any]) -> None:
        self.updates += 1
        first, second = self.moments
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        corrected = first / (1 - 0.9**self.updates)
        scale = np.sqrt(second / (1 - 0.999**self.updates)) + 1e-8
        self.weights = self.weights + self.params["learning_rate"] * corrected / scale
