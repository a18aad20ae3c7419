"""Our agents pass the contract that users' agents pass, and so does a user's agent with six methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.agents import make_agent
from optix_bus.interfaces import BaseAgent
from optix_bus.testing.agent_contract import AgentContract
from optix_bus.types import EpisodeData, HyperparamSet
from tests.agents.windows import NUMBERS, VECTOR


class TestPPO(AgentContract):
    spaces = VECTOR

    def make_agent(self) -> BaseAgent:
        return make_agent(VECTOR, seed=0, hyperparams={"n_epochs": 2, "learning_rate": 1e-2})


class TestPPOWithDiscreteObservations(TestPPO):
    spaces = NUMBERS

    def make_agent(self) -> BaseAgent:
        return make_agent(NUMBERS, seed=0, hyperparams={"n_epochs": 2})


class TestDQN(AgentContract):
    spaces = VECTOR

    def make_agent(self) -> BaseAgent:
        quick = {"learning_starts": 0, "batch_size": 16, "target_update_freq": 10}
        return make_agent(VECTOR, algorithm="dqn", seed=0, hidden_sizes=(16,), hyperparams=quick)


class TestDQNWithPrioritiesAndThreeSteps(TestDQN):
    def make_agent(self) -> BaseAgent:
        agent = super().make_agent()
        agent.set_hyperparams(HyperparamSet({"per_alpha": 0.6, "n_step": 3}))
        return agent


class TestDQNWithDiscreteObservations(AgentContract):
    spaces = NUMBERS

    def make_agent(self) -> BaseAgent:
        quick = {"learning_starts": 0, "batch_size": 16}
        return make_agent(NUMBERS, algorithm="dqn", seed=0, hidden_sizes=(16,), hyperparams=quick)


class _Softmax(BaseAgent):
    """Linear REINFORCE in 20 lines."""

    def __init__(self) -> None:
        self.weights = np.zeros((4, 3))
        self.params: dict[str, Any] = {"rate": 0.1}

    def action_probs(self, observation: Any) -> Any:
        logits = np.asarray(observation) @ self.weights
        return np.exp(logits) / np.exp(logits).sum()

    def act(self, observation: Any) -> int:
        return int(np.random.default_rng().choice(3, p=self.action_probs(observation)))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        rows = zip(episode_data.observations, episode_data.actions, episode_data.rewards, strict=True)
        for observation, action, reward in rows:
            gradient = np.eye(3)[action] - self.action_probs(observation)
            self.weights += self.params["rate"] * reward * np.outer(observation, gradient)
        return {"weight": float(np.abs(self.weights).mean())}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: str) -> None:
        np.save(path + ".npy", self.weights)

    def load_weights(self, path: str) -> None:
        self.weights = np.load(path + ".npy")


class TestAUsersAgent(AgentContract):
    spaces = VECTOR

    def make_agent(self) -> BaseAgent:
        return _Softmax()
