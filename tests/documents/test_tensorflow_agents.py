"""Agents in TensorFlow, constructed as the documents show them."""

from __future__ import annotations

import gymnasium as gym
import pytest

from optix_bus import (
    BatchPipeline,
    HyperparamSet,
    RewardNormalizer,
    TFAgent,
    TFDQNAgent,
    TFEvaluator,
    TFGaussianPPOAgent,
    TFPPOAgent,
    TFSACAgent,
    TFTD3Agent,
    TFTDDAgent,
    make_agent,
)
from tests.documents.programs import train

tf = pytest.importorskip("tensorflow", reason="the extra tensorflow is not installed")

PPO = {
    "learning_rate": 3e-4, "clip_ratio": 0.2, "entropy_coef": 0.01, "vf_coef": 0.5, "gamma": 0.99,
    "gae_lambda": 0.95, "n_epochs": 2, "minibatch_size": 64,
}  # fmt: skip


def mlp(inputs, outputs, activation="tanh"):
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape=(inputs,)),
            tf.keras.layers.Dense(16, activation=activation),
            tf.keras.layers.Dense(outputs),
        ]
    )


def test_ppo_from_keras_models(tmp_path):
    agent = TFPPOAgent(
        actor=mlp(4, 2),
        critic=mlp(4, 1),
        optimizer=tf.keras.optimizers.Adam(3e-4),
        hyperparams=HyperparamSet(params=PPO, episode_id=0),
        reward_normalizer=RewardNormalizer(gamma=0.99, clip=10.0),
    )
    opt = train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=128), tmp_path)
    assert opt.best_snapshot is not None


def test_ppo_for_continuous_actions_takes_mean_and_log_std(tmp_path):
    agent = TFGaussianPPOAgent(
        actor=mlp(3, 2), critic=mlp(3, 1), optimizer=tf.keras.optimizers.Adam(3e-4), action_dim=1,
        hyperparams=HyperparamSet(params=PPO, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("Pendulum-v1"), agent=agent, window_size=128), tmp_path)


def test_an_algorithm_is_extended_by_a_subclass():
    class Logging(TFPPOAgent):
        """Adds the mean distribution over actions to what learning reports."""

        def learn(self, episode_data):
            diag = super().learn(episode_data)
            obs = tf.cast(episode_data.observations[:256], tf.float32)
            probs = tf.reduce_mean(tf.nn.softmax(self._actor(obs, training=False)), axis=0).numpy()
            diag["p_left"], diag["p_right"] = float(probs[0]), float(probs[1])
            return diag

    hyperparams = HyperparamSet(params=PPO, episode_id=0)
    agent = Logging(mlp(4, 2), mlp(4, 1), tf.keras.optimizers.Adam(3e-4), hyperparams)
    pipeline = BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=128)
    pipeline.setup()
    found = agent.learn(next(pipeline.episodes()))
    pipeline.teardown()
    assert found["p_left"] + found["p_right"] == pytest.approx(1.0, abs=1e-5)


def test_a_model_alone_is_an_agent_and_its_learning_may_be_ones_own(tmp_path):
    class Mine(TFAgent):
        def learn(self, episode_data):
            clip_ratio = self._hyperparams.params.get("clip_ratio", 0.2)
            return {
                **super().learn(episode_data),
                "clip": clip_ratio,
                "layers": float(len(self.model.layers)),
            }

    for kind in (TFAgent, Mine):
        agent = kind(
            model=mlp(4, 2, "relu"),
            optimizer=tf.keras.optimizers.Adam(learning_rate=3e-4),
            hyperparams=HyperparamSet(params={"learning_rate": 3e-4, "gamma": 0.99}, episode_id=0),
        )
        pipeline = BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=200)
        opt = train(agent, pipeline, tmp_path / kind.__name__, evaluator=TFEvaluator())
        assert opt.best_snapshot is not None


@pytest.mark.parametrize("framework", ["tf", "tensorflow"])
def test_the_framework_has_two_names(framework):
    assert isinstance(make_agent(gym.make("CartPole-v1"), framework=framework, algorithm="ppo"), TFPPOAgent)


def test_dqn_from_a_keras_model_with_every_documented_key(tmp_path):
    agent = TFDQNAgent(
        q_network=mlp(4, 2, "relu"),
        n_actions=2,
        optimizer=tf.keras.optimizers.Adam(3e-4),
        hyperparams=HyperparamSet(params={
            "learning_rate": 3e-4, "gamma": 0.99, "epsilon": 1.0, "epsilon_min": 0.05,
            "epsilon_decay": 0.995, "batch_size": 64, "target_update_freq": 100,
            "replay_capacity": 100_000, "per_alpha": 0.0, "per_beta": 0.4, "n_step": 1,
        }, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=100), tmp_path)


def test_sac_from_twin_critics_and_three_optimizers(tmp_path):
    agent = TFSACAgent(
        actor=mlp(3, 2, "relu"), critic1=mlp(4, 1, "relu"), critic2=mlp(4, 1, "relu"), action_dim=1,
        actor_optimizer=tf.keras.optimizers.Adam(3e-4),
        critic_optimizer=tf.keras.optimizers.Adam(3e-4),
        alpha_optimizer=tf.keras.optimizers.Adam(3e-4),
        hyperparams=HyperparamSet(params={
            "learning_rate": 3e-4, "gamma": 0.99, "tau": 0.005, "batch_size": 16, "replay_capacity": 1000,
        }, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("Pendulum-v1"), agent=agent, window_size=60), tmp_path)


def test_td3_goes_by_both_of_its_names(tmp_path):
    assert TFTDDAgent is TFTD3Agent
    agent = TFTDDAgent(
        actor=mlp(3, 1, "relu"), critic1=mlp(4, 1, "relu"), critic2=mlp(4, 1, "relu"), action_dim=1,
        actor_optimizer=tf.keras.optimizers.Adam(3e-4),
        critic_optimizer=tf.keras.optimizers.Adam(3e-4),
        hyperparams=HyperparamSet(params={"policy_delay": 2, "batch_size": 16}, episode_id=0),
    )  # fmt: skip
    train(agent, BatchPipeline(env=gym.make("Pendulum-v1"), agent=agent, window_size=60), tmp_path)


def test_an_environment_chooses_its_agent():
    env = gym.make("LunarLanderContinuous-v3")
    assert isinstance(make_agent(env, framework="tf"), TFSACAgent)
    assert isinstance(make_agent(env, framework="tf", deterministic=True), TFTDDAgent)
