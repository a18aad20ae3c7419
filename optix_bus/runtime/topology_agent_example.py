"""The agent that ``optix-bus init --template custom_agent`` writes: six methods, NumPy, fifty lines."""

CUSTOM_AGENT = '''"""An agent of your own. Six methods are all that optix-bus asks for, and no framework.

This one is a linear softmax policy trained by REINFORCE (Williams 1992) with normalised returns.
"""

import numpy as np

from optix_bus.interfaces import BaseAgent
from optix_bus.types import HyperparamSet


class MyAgent(BaseAgent):
    default_param_bounds = {"learning_rate": (1.0, 30.0)}
    default_log_params = ("learning_rate",)

    def __init__(self, observation_size, actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.weights = np.zeros((observation_size, actions))
        self.params = {"learning_rate": 10.0, "gamma": 0.95}

    def probabilities(self, observations):
        logits = observations @ self.weights
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def act(self, observation):
        chances = self.probabilities(np.asarray(observation, float))
        return int(self.rng.choice(len(chances), p=chances))

    def learn(self, episode_data):
        rewards = np.asarray(episode_data.rewards, float)  # [T] or [T, B]: time comes first
        returns, ahead = np.zeros_like(rewards), 0.0
        for t in reversed(range(len(rewards))):
            ahead = rewards[t] + self.params["gamma"] * ahead * ~episode_data.dones[t]
            returns[t] = ahead
        advantage = ((returns - returns.mean()) / (returns.std() + 1e-8)).reshape(-1)
        observations = np.asarray(episode_data.observations, float).reshape(-1, len(self.weights))
        taken = np.eye(self.weights.shape[1])[np.asarray(episode_data.actions, int).reshape(-1)]
        error = (taken - self.probabilities(observations)) * advantage[:, None]
        self.weights += self.params["learning_rate"] * observations.T @ error / len(error)
        return {"mean_return": float(returns.mean())}

    def get_hyperparams(self):
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams):
        self.params.update(hyperparams.params)

    def save_weights(self, path):
        with open(path, "wb") as file:
            np.save(file, self.weights)

    def load_weights(self, path):
        with open(path, "rb") as file:
            self.weights = np.load(file)
'''
