"""Agents in PyTorch, constructed as the documents show them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus import (
    BaseAgent,
    BatchPipeline,
    HyperparamSet,
    RewardNormalizer,
    TorchAgent,
    TorchDQNAgent,
    TorchEvaluator,
    TorchGaussianPPOAgent,
    TorchPPOAgent,
    TorchRainbowDQNAgent,
    TorchRecurrentPPOAgent,
    TorchSACAgent,
    TorchTD3Agent,
    make_agent,
)
from optix_bus import RainbowQNetwork as QNetwork
from tests.documents.programs import train

PPO = {
    "learning_rate": 3e-4, "clip_ratio": 0.2, "entropy_coef": 0.01, "gamma": 0.99, "gae_lambda": 0.95,
    "n_epochs": 2, "minibatch_size": 64,
}  # fmt: skip


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def adam(*networks):
    return torch.optim.Adam([p for network in networks for p in network.parameters()], lr=3e-4)


def test_an_environment_chooses_its_agent():
    env = gym.make("LunarLanderContinuous-v3")
    assert isinstance(make_agent(env), TorchSACAgent)
    assert isinstance(make_agent(env, deterministic=True), TorchTD3Agent)
    assert isinstance(make_agent(gym.make("CartPole-v1")), TorchPPOAgent)


def test_ppo_from_an_actor_a_critic_and_an_optimizer(tmp_path):
    actor, critic = mlp(4, 2), mlp(4, 1)
    agent = TorchPPOAgent(
        actor=actor,
        critic=critic,
        optimizer=torch.optim.Adam(list(actor.parameters()) + list(critic.parameters()), lr=3e-4),
        hyperparams=HyperparamSet(params=PPO, episode_id=0),
        device="cpu",
        reward_normalizer=RewardNormalizer(gamma=0.99, clip=10.0),
    )
    pipeline = BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=256)
    opt = train(agent, pipeline, tmp_path, evaluator=TorchEvaluator())
    assert opt.best_snapshot is not None
    assert set(opt.best_snapshot.hyperparams.params) >= set(PPO)


def test_ppo_for_continuous_actions_takes_mean_and_log_std(tmp_path):
    env = gym.make("LunarLanderContinuous-v3")
    actor, critic = mlp(8, 2 * 2), mlp(8, 1)
    agent = TorchGaussianPPOAgent(
        actor=actor, critic=critic, optimizer=adam(actor, critic), action_dim=2,
        hyperparams=HyperparamSet(params=PPO, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=env, agent=agent, window_size=128), tmp_path)


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_ppo_with_a_memory(cell, tmp_path):
    rnn, actor_head, critic_head = cell(4, 16, batch_first=True), nn.Linear(16, 2), nn.Linear(16, 1)
    agent = TorchRecurrentPPOAgent(
        rnn=rnn, actor_head=actor_head, critic_head=critic_head, n_actions=2,
        optimizer=adam(rnn, actor_head, critic_head),
        hyperparams=HyperparamSet(params={"bptt_len": 16, "n_epochs": 2}, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=128), tmp_path)


def test_dqn_from_a_network_with_every_documented_key(tmp_path):
    q_network = mlp(4, 2)
    agent = TorchDQNAgent(
        q_network=q_network,
        n_actions=2,
        optimizer=adam(q_network),
        hyperparams=HyperparamSet(params={
            "learning_rate": 3e-4, "gamma": 0.99, "epsilon": 1.0, "epsilon_min": 0.05,
            "epsilon_decay": 0.995, "batch_size": 64, "target_update_freq": 100,
            "replay_capacity": 100_000, "per_alpha": 0.0, "per_beta": 0.4, "n_step": 1,
        }, episode_id=0),
    )  # fmt: skip
    assert agent.is_on_policy is False
    train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=200), tmp_path)


def test_rainbow_from_its_own_network(tmp_path):
    network = QNetwork.build(4, 2, hidden_size=16, n_atoms=51)
    agent = TorchRainbowDQNAgent(
        q_network=network, n_actions=2, obs_dim=4, optimizer=adam(network),
        hyperparams=HyperparamSet(params={
            "v_min": 0.0, "v_max": 100.0, "n_atoms": 51, "per_alpha": 0.5, "n_step": 3, "batch_size": 32,
        }, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=100), tmp_path)


def test_sac_from_twin_critics_and_three_optimizers(tmp_path):
    env = gym.make("Pendulum-v1")
    actor, critic1, critic2 = mlp(3, 2), mlp(3 + 1, 1), mlp(3 + 1, 1)
    log_alpha = nn.Parameter(torch.zeros(1))
    agent = TorchSACAgent(
        actor=actor, critic1=critic1, critic2=critic2, action_dim=1,
        actor_optimizer=adam(actor), critic_optimizer=adam(critic1, critic2),
        alpha_optimizer=torch.optim.Adam([log_alpha], lr=3e-4),
        hyperparams=HyperparamSet(params={
            "learning_rate": 3e-4, "gamma": 0.99, "tau": 0.005, "batch_size": 16, "replay_capacity": 1000,
        }, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=env, agent=agent, window_size=60), tmp_path)


def test_td3_from_twin_critics_and_two_optimizers(tmp_path):
    env = gym.make("Pendulum-v1")
    actor, critic1, critic2 = mlp(3, 1), mlp(3 + 1, 1), mlp(3 + 1, 1)
    agent = TorchTD3Agent(
        actor=actor, critic1=critic1, critic2=critic2, action_dim=1,
        actor_optimizer=adam(actor), critic_optimizer=adam(critic1, critic2),
        hyperparams=HyperparamSet(params={
            "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5, "batch_size": 16,
            "replay_capacity": 1000,
        }, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=env, agent=agent, window_size=60), tmp_path)


def test_an_algorithm_is_extended_by_a_subclass():
    class Logging(TorchPPOAgent):
        """Adds the mean distribution over actions to what learning reports."""

        def learn(self, episode_data):
            diag = super().learn(episode_data)
            seen = torch.as_tensor(np.asarray(episode_data.observations[:256]), dtype=torch.float32)
            with torch.no_grad():
                probs = torch.softmax(self._actor(seen), -1).mean(0)
            diag["p_left"], diag["p_right"] = float(probs[0]), float(probs[1])
            diag["clip"] = self._hyperparams.params.get("clip_ratio", 0.2)
            return diag

    actor, critic = mlp(4, 2), mlp(4, 1)
    agent = Logging(actor, critic, adam(actor, critic), HyperparamSet(params=PPO, episode_id=0))
    pipeline = BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=128)
    pipeline.setup()
    found = agent.learn(next(pipeline.episodes()))
    pipeline.teardown()
    assert found["p_left"] + found["p_right"] == pytest.approx(1.0)
    assert found["clip"] == 0.2
    assert "explained_variance" in found


def test_a_network_alone_is_an_agent_and_its_learning_may_be_ones_own(tmp_path):
    class Mine(TorchAgent):
        def learn(self, episode_data):
            clip = self._hyperparams.params.get("clip_ratio", 0.2)
            return {**super().learn(episode_data), "clip": clip, "layers": float(len(list(self.model)))}

    for kind in (TorchAgent, Mine):
        model = mlp(4, 2)
        agent = kind(
            model=model,
            optimizer=adam(model),
            hyperparams=HyperparamSet(params={"learning_rate": 3e-4, "gamma": 0.99}, episode_id=0),
            device="auto",
        )
        pipeline = BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=100)
        train(agent, pipeline, tmp_path / kind.__name__)


def test_six_methods_are_an_agent(tmp_path):
    class Constant(BaseAgent):
        weights = np.zeros(1)

        def act(self, observation):
            return int(observation[2] > 0)

        def learn(self, episode_data):
            return {"reward": float(np.sum(episode_data.rewards))}

        def get_hyperparams(self):
            return HyperparamSet(params={"nothing": 1.0}, episode_id=0)

        def set_hyperparams(self, hyperparams):
            pass

        def save_weights(self, path):
            with open(path, "wb") as file:
                np.save(file, self.weights)

        def load_weights(self, path):
            with open(path, "rb") as file:
                self.weights = np.load(file)

        @property
        def is_on_policy(self):
            return False

    agent = Constant()
    train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=100), tmp_path)
