"""Our agents pass the contract that users' agents pass, and so does a user's agent with six methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optix_bus.agents import make_agent
from optix_bus.interfaces import BaseAgent
from optix_bus.testing.agent_contract import AgentContract
from optix_bus.types import ArraySpec, EpisodeData, HyperparamSet, SpaceSpec
from tests.agents.every import EVERY, NAMES, OFTEN, small_agent, spaces_of
from tests.agents.windows import NUMBERS, VECTOR

#: The other frameworks compile for each new agent, and read windows with the same code.
SLOW_BUT_TORCH = [pytest.param(kind, marks=() if kind[0] == "torch" else pytest.mark.slow) for kind in EVERY]


class TestEveryAgent(AgentContract):
    """Every algorithm in every framework, from windows of one environment and of three."""

    @pytest.fixture(autouse=True, params=OFTEN, ids=NAMES)
    def _the_agent(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
        self.spaces = spaces_of(self.kind)

    def make_agent(self) -> BaseAgent:
        return small_agent(self.kind)


class TestEveryAgentInThreeEnvironments(TestEveryAgent):
    environments = 3
    window_steps = 32

    @pytest.fixture(autouse=True, params=SLOW_BUT_TORCH, ids=NAMES)
    def _the_agent(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
        self.spaces = spaces_of(self.kind)


@pytest.mark.slow
class TestEveryAgentThatSeesImages(AgentContract):
    """The same network in every framework: the rest of what it must be is tried with vectors each time."""

    window_steps = 24

    @pytest.fixture(autouse=True, params=EVERY, ids=NAMES)
    def _the_agent(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
        image = ArraySpec("box", (36, 40, 2), "uint8", low=(0.0,) * 2880, high=(255.0,) * 2880)
        self.spaces = SpaceSpec("images", image, spaces_of(self.kind).action)

    def make_agent(self) -> BaseAgent:
        return small_agent(self.kind, spaces=self.spaces, hidden_sizes=None)


TestPPOWithDiscreteObservations = AgentContract.of(
    lambda: make_agent(NUMBERS, seed=0, hyperparams={"n_epochs": 2}), NUMBERS
)


def test_an_attribute_that_the_contract_lacks_is_refused():
    with pytest.raises(TypeError, match="AgentContract has no attribute 'window_stepz'"):
        AgentContract.of(_Softmax, VECTOR, window_stepz=3)


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


class TestRecurrentPPO(AgentContract):
    spaces = VECTOR
    rnn = "gru"

    def make_agent(self) -> BaseAgent:
        hyperparams = {"n_epochs": 2, "learning_rate": 1e-2}
        sizes = (16, 16)
        return make_agent(
            self.spaces,
            algorithm="recurrent_ppo",
            rnn=self.rnn,
            hidden_sizes=sizes,
            seed=0,
            hyperparams=hyperparams,
        )


class TestRecurrentPPOWithAnLSTM(TestRecurrentPPO):
    rnn = "lstm"


class TestRecurrentPPOWithDiscreteObservations(TestRecurrentPPO):
    spaces = NUMBERS


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


TestAUsersAgent = AgentContract.of(_Softmax, VECTOR, window_steps=30)
