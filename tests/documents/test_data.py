"""Normalisers, replay and hindsight, named and called as the documents show them."""

from __future__ import annotations

import numpy as np

from optix_bus import (
    HERBuffer,
    ObsNormalizer,
    PrioritizedReplayBuffer,
    RewardNormalizer,
    RunningMeanStd,
    compute_gae,
    compute_vtrace_targets,
    make_minibatches,
)


def test_observations_are_normalised_under_both_spellings():
    batch = np.random.default_rng(0).normal(5.0, 2.0, (256, 4))
    newest = ObsNormalizer(shape=(4,))
    older = ObsNormalizer(obs_shape=(4,), clip=10.0)
    for normalizer in (newest, older):
        normalizer.update(batch)
        normed = normalizer.normalize(batch[0])
        assert normed.shape == (4,)
        np.testing.assert_allclose(normed, (batch[0] - batch.mean(0)) / batch.std(0), atol=1e-3)
        assert normalizer.mean.shape == normalizer.var.shape == (4,)


def test_rewards_are_divided_by_the_deviation_of_the_return():
    plain, full = RewardNormalizer(), RewardNormalizer(gamma=0.99, clip=10.0)
    rewards = np.random.default_rng(1).normal(3.0, 20.0, 200)
    for normalizer in (plain, full):
        for step, reward in enumerate(rewards):
            normalizer.step(float(reward))
            if step % 50 == 49:
                normalizer.reset()
        scaled = normalizer.normalize(rewards)
        assert (np.sign(scaled) == np.sign(rewards)).all()
        assert np.abs(scaled).max() <= 10.0
    np.testing.assert_array_equal(plain.normalize(rewards), full.normalize(rewards))


def test_running_moments_stand_alone():
    moments = RunningMeanStd(shape=(2,))
    moments.update(np.array([[0.0, 10.0], [2.0, 30.0]]))
    np.testing.assert_allclose(moments.mean, [1.0, 20.0], rtol=1e-3)
    assert np.abs(moments.normalize(np.array([1e6, 20.0]), clip=5.0)).max() == 5.0


def test_a_prioritized_replay_is_pushed_to_and_sampled_from():
    buffer = PrioritizedReplayBuffer(capacity=100, alpha=0.6, beta=0.4, n_step=3, gamma=0.9)
    for t in range(30):
        buffer.push(np.full(4, t), t % 2, 1.0, np.full(4, t + 1), t % 10 == 9)
    buffer.flush_episode()
    obs, actions, rewards, following, done, weights, indices, n = buffer.sample(16)
    assert obs.shape == following.shape == (16, 4)
    assert len(actions) == len(rewards) == len(done) == len(weights) == len(n) == 16
    buffer.update_priorities(indices, np.abs(rewards) + 0.1)
    buffer.set_params(alpha=0.5, beta=0.5)


def test_a_hindsight_buffer_is_filled_by_episodes_and_sampled_from():
    obs_dim, act_dim, goal_dim, batch_size = 6, 2, 3, 32
    her = HERBuffer(obs_dim=obs_dim, act_dim=act_dim, goal_dim=goal_dim, strategy="future", k=4)
    rng = np.random.default_rng(0)

    def compute_reward_fn(achieved, goal):
        return 0.0 if np.linalg.norm(achieved - goal) < 0.1 else -1.0

    obs_list = [rng.standard_normal(obs_dim) for _ in range(20)]
    next_obs_list = [rng.standard_normal(obs_dim) for _ in range(20)]
    act_list = [rng.uniform(-1, 1, act_dim) for _ in range(20)]
    achieved_goals = [rng.standard_normal(goal_dim) for _ in range(20)]
    rew_list, done_list = [-1.0] * 20, [0.0] * 19 + [1.0]
    her.store_episode(
        obs_list, act_list, rew_list, next_obs_list, done_list, achieved_goals, compute_reward_fn
    )
    obs_b, act_b, rew_b, next_b, done_b, weights, idx, n = her.sample(batch_size)
    assert obs_b.shape == next_b.shape == (batch_size, obs_dim)
    assert act_b.shape == (batch_size, act_dim)
    assert rew_b.shape == done_b.shape == weights.shape == idx.shape == n.shape == (batch_size,)
    assert set(np.unique(rew_b)) <= {-1.0, 0.0}
    assert 0.0 in her.sample(500).rew  # some step was shown the goal that it reached


def test_advantages_minibatches_and_off_policy_targets():
    rewards, values, dones = [1.0] * 6, [0.5] * 6, [False] * 5 + [True]
    advantages, returns = compute_gae(rewards, values, dones, gamma=0.99, gae_lambda=0.95, last_value=0.0)
    np.testing.assert_allclose(returns, advantages + 0.5)
    data = {"advantages": advantages, "returns": returns}
    parts = list(make_minibatches(data, minibatch_size=4, shuffle=True))
    assert sorted(np.concatenate([part["returns"] for part in parts])) == sorted(returns)
    log_probs = np.full(6, -0.7)
    targets, _ = compute_vtrace_targets(
        np.array(rewards), np.array(values), log_probs, log_probs, np.array(dones), gamma=0.99,
        rho_bar=1.0, c_bar=1.0,
    )  # fmt: skip
    np.testing.assert_allclose(targets[0], sum(0.99**t for t in range(6)))
