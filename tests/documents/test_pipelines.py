"""Pipelines, named and called as the documents show them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from optix_bus import BatchPipeline, LivePipeline, VectorBatchPipeline, make_agent
from tests.documents.programs import train


def test_one_environment_is_stepped_without_resets_between_windows(tmp_path):
    env = gym.make("CartPole-v1")
    agent = make_agent(env, hidden_sizes=(16,))
    pipeline = BatchPipeline(env=env, agent=agent, window_size=200)
    opt = train(agent, pipeline, tmp_path)
    assert opt.best_snapshot is not None


def test_an_environment_may_be_named_and_steps_have_two_names():
    agent = make_agent(gym.make("CartPole-v1"), hidden_sizes=(16,))
    pipeline = BatchPipeline(env_id="CartPole-v1", n_steps=64)
    pipeline.set_agent(agent)
    pipeline.setup()
    windows = pipeline.episodes()
    try:
        first, second = next(windows), next(windows)
    finally:
        pipeline.teardown()
    assert len(first.rewards) == len(second.rewards) == 64
    assert first.length == 64


def test_eight_environments_side_by_side(tmp_path):
    env_fns = [lambda: gym.make("CartPole-v1")] * 8
    agent = make_agent(env_fns[0](), hidden_sizes=(16,))
    with_agent = VectorBatchPipeline(env_fns=env_fns, agent=agent, window_size=50)
    train(agent, with_agent, tmp_path)


def test_a_vector_pipeline_gets_its_agent_later(tmp_path):
    env_fns = [lambda: gym.make("CartPole-v1")] * 2
    agent = make_agent(env_fns[0](), hidden_sizes=(16,))
    train(agent, VectorBatchPipeline(env_fns=env_fns, window_size=64), tmp_path)


def test_each_environment_in_a_process_of_its_own(tmp_path):
    env_fns = [lambda: gym.make("CartPole-v1")] * 2
    agent = make_agent(env_fns[0](), hidden_sizes=(16,))
    train(agent, VectorBatchPipeline(env_fns=env_fns, window_size=32, async_envs=True), tmp_path)


def test_a_validation_pipeline_and_a_scorer_of_ones_own_decide(tmp_path):
    env = gym.make("CartPole-v1")
    agent = make_agent(env, hidden_sizes=(16,))
    asked = []

    def external_eval(scored) -> float:
        asked.append(scored)
        return float(np.mean([scored.act(np.zeros(4, np.float32)) for _ in range(5)]))

    opt = train(
        agent,
        BatchPipeline(env=env, agent=agent, window_size=100),
        tmp_path,
        val_pipeline=BatchPipeline(env=gym.make("CartPole-v1"), agent=agent, window_size=100),
        rollback_on_degradation=True,
        checkpoint_score_fn=external_eval,
        dormant_threshold=10,
        min_episodes_before_dormant=50,
        val_episodes=2,
    )
    assert asked
    assert all(scored is agent for scored in asked)
    assert opt.best_snapshot is not None


class MyFeed:
    def stream(self):
        rng = np.random.default_rng(0)
        while True:
            yield rng.normal(size=4).astype(np.float32), float(rng.normal()), False, False, {}


def test_a_live_pipeline_over_a_stream(tmp_path):
    agent = make_agent(gym.make("CartPole-v1"))
    pipeline = LivePipeline(
        data_source=MyFeed(),
        agent=agent,
        episode_boundary_fn=LivePipeline.every_n_steps(64),
    )
    train(agent, pipeline, tmp_path)
    by_time = LivePipeline(
        data_source=MyFeed(),
        agent=agent,
        episode_boundary_fn=LivePipeline.every_n_seconds(0.02),
        buffer_size=10_000,
        reconnect_on_disconnect=True,
    )
    by_time.setup()
    window = next(by_time.episodes())
    by_time.teardown()
    assert window.metadata["is_live"]
    assert len(window.rewards) > 0
