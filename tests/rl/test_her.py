from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from optix_bus import HERBuffer
from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.rl.goals import judge
from optix_bus.types import NamedArrays
from tests.oracles import her as oracle

GOAL = 2


def reward(achieved, goal):
    """Of single rows only, as a user writes it."""
    return 0.0 if list(achieved) == list(goal) else -1.0


def rewards_of_many(achieved, goals):
    return np.where((achieved == goals).all(-1), 0.0, -1.0)


def episode(seed, steps):
    """A list of (obs, act, rew, next_obs, done, achieved) with the step's number in the observation."""
    rng = np.random.default_rng(seed)
    goal = rng.integers(0, 3, GOAL)
    reached = rng.integers(0, 3, (steps, GOAL))
    return [
        (
            [float(seed), float(t), *map(float, goal)],
            int(rng.integers(4)),
            reward(reached[t], goal),
            [float(seed), float(t + 1), *map(float, goal)],
            t == steps - 1,
            list(map(float, reached[t])),
        )
        for t in range(steps)
    ]


def store(buffer, steps_list, fn=reward, **extra):
    columns = list(zip(*steps_list, strict=True))
    buffer.store_episode(*columns, fn, **extra)


def transitions(sample):
    return [
        (tuple(o), int(a), float(r), tuple(n), bool(d))
        for o, a, r, n, d in zip(sample.obs, sample.act, sample.rew, sample.next, sample.done, strict=True)
    ]


def make(strategy="future", k=4, **arguments):
    return HERBuffer(obs_dim=4, act_dim=1, goal_dim=GOAL, strategy=strategy, k=k, seed=0, **arguments)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    strategy=st.sampled_from(["future", "final", "episode"]),
    k=st.integers(0, 5),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    capacity=st.integers(9, 30),
)
def test_only_possible_transitions_are_drawn_and_real_ones_in_their_share(
    seed, strategy, k, lengths, capacity
):
    buffer = HERBuffer(4, 1, GOAL, strategy, k, capacity, seed=seed)
    kept: list = []
    for number, steps in enumerate(lengths):
        kept.append(episode(number, steps))
        store(buffer, kept[-1])
        while sum(map(len, kept)) > capacity:
            kept.pop(0)
    allowed: set = set()
    for each in kept:
        real, relabelled = oracle.possible(each, strategy, reward, GOAL)
        allowed |= set(real) | ({t for row in relabelled for t in row} if k else set())
    assert len(buffer) == sum(map(len, kept)) * (k + 1)
    drawn = transitions(buffer.sample(300))
    assert set(drawn) <= allowed
    # Every step of every episode that is kept can be drawn.
    seen = {(t[0][0], t[0][1]) for t in transitions(buffer.sample(40 * len(buffer)))}
    assert seen == {(step[0][0], step[0][1]) for each in kept for step in each}


@pytest.mark.parametrize("strategy", ["future", "episode", "final"])
def test_goals_are_chosen_alike_and_real_transitions_are_one_in_k_plus_one(strategy):
    """Over many buffers, each goal that a step may take is taken equally often."""
    steps = [
        ([0.0, t, 9.0, 9.0], 0, -1.0, [0.0, t + 1.0, 9.0, 9.0], False, [t, t]) for t in map(float, range(5))
    ]
    counts: Counter = Counter()
    buffer = make(strategy, k=3, capacity=5)
    for _ in range(600):
        store(buffer, steps)
        counts.update((o[1], o[2]) for o in buffer.sample(40).obs.tolist())
    total = sum(counts.values())
    real = sum(n for (_, goal), n in counts.items() if goal == 9.0)
    assert real / total == pytest.approx(0.25, abs=0.02)
    for t in range(5):
        goals = {"future": range(t, 5), "episode": range(5), "final": [4]}[strategy]
        found = [counts[(float(t), float(g))] for g in goals]
        assert sum(found) == sum(n for (s, g), n in counts.items() if s == t and g != 9.0)
        if len(found) > 1:
            assert stats.chisquare(found).pvalue > 1e-5


def test_rewards_are_recomputed_at_once_where_the_function_can_and_row_by_row_otherwise():
    calls = []

    def counted(achieved, goals):
        calls.append(np.shape(achieved))
        return rewards_of_many(achieved, goals)

    one, two = make(), make()
    store(one, episode(1, 8), counted)
    store(two, episode(1, 8), reward)
    np.testing.assert_array_equal(one.sample(64).rew, two.sample(64).rew)
    assert calls.count((32, GOAL)) == 1
    assert len(calls) == 3


def test_a_function_of_rows_is_never_mistaken_for_one_of_many():
    """With as many rows as numbers in a goal the shape alone says nothing."""
    achieved, goals = np.array([[1.0, 5.0], [2.0, 7.0]]), np.zeros((2, 2))
    found = judge(
        lambda a, g: float(-np.abs(a - g)[0]) if a.ndim == 1 else -np.abs(a - g)[0], achieved, goals, "f"
    )
    assert found.tolist() == [-1.0, -2.0]


def test_a_reward_function_of_gymnasium_robotics_gets_its_third_argument():
    def compute_reward(achieved_goal, desired_goal, info):
        assert info == {}
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)

    buffer = make("final", k=1)
    store(buffer, episode(0, 6), compute_reward)
    assert buffer.sample(100).rew.min() < -0.5


def test_goals_may_come_beside_the_observations_and_achievements_with_the_start():
    plain, beside = make(), HERBuffer(obs_dim=2, act_dim=1, goal_dim=GOAL, seed=0)
    steps = episode(3, 7)
    store(plain, steps)
    obs, act, rew, following, done, achieved = zip(*steps, strict=True)
    cut = [o[:2] for o in obs], act, rew, [n[:2] for n in following], done, [[7.0, 7.0], *achieved]
    beside.store_episode(*cut, reward, desired_goals=obs[0][2:])
    for one, two in zip(plain.sample(50), beside.sample(50), strict=True):
        np.testing.assert_array_equal(one, two)


def test_whether_a_relabelled_step_ends_its_episode_may_be_recomputed():
    kept, again = make("future", k=2), make("future", k=2)
    store(kept, episode(2, 9))
    store(again, episode(2, 9), compute_done=lambda achieved, goal: reward(achieved, goal) == 0.0)
    sample = kept.sample(200)
    np.testing.assert_array_equal(sample.done, sample.obs[:, 1] == 8.0)
    sample = again.sample(500)
    real = (sample.obs[:, -GOAL:] == np.array(episode(2, 9)[0][0][-GOAL:])).all(1)
    np.testing.assert_array_equal(sample.done[~real] == 1.0, sample.rew[~real] == 0.0)


def test_continuous_actions_keep_their_shape_and_type():
    buffer = HERBuffer(obs_dim=4, act_dim=3, goal_dim=GOAL, seed=0)
    steps = [(*s[:1], np.full(3, t, np.float32), *s[2:]) for t, s in enumerate(episode(0, 5))]
    store(buffer, steps)
    obs, act, rew, following, done, weights, idx, n = buffer.sample(10)
    assert (act.shape, act.dtype) == ((10, 3), np.float32)
    np.testing.assert_array_equal(act[:, 0], obs[:, 1])
    np.testing.assert_array_equal(following[:, 1], obs[:, 1] + 1)
    assert rew.shape == done.shape == weights.shape == idx.shape == n.shape == (10,)
    assert weights.tolist() == n.tolist() == [1.0] * 10


def test_priorities_decide_what_is_drawn_and_the_weights_correct_for_it():
    buffer = make(k=1, alpha=1.0, beta=1.0, capacity=20)
    for number in range(5):
        store(buffer, episode(number, 6))  # the first two episodes have left
    assert len(buffer) == 36
    numbers = np.unique(buffer.sample(5000).idx)
    assert len(numbers) == 36
    buffer.update_priorities(numbers, np.arange(36) + 1.0)
    sample = buffer.sample(100_000)
    counts = np.array([(sample.idx == number).sum() for number in numbers])
    assert stats.chisquare(counts, 100_000 * (np.arange(36) + 1.0) / 666).pvalue > 1e-3
    weights = {int(i): float(w) for i, w in zip(sample.idx, sample.weights, strict=True)}
    expected = [1.0 / (rank + 1.0) for rank in range(36)]
    np.testing.assert_allclose([weights[int(i)] for i in numbers], expected, rtol=1e-4)


def test_priorities_of_what_has_left_are_passed_over():
    buffer = make(k=0, alpha=0.6, capacity=6)
    store(buffer, episode(0, 6))
    old = buffer.sample(20).idx
    store(buffer, episode(1, 3))
    buffer.update_priorities(old, np.full(20, 1e9))
    seen = {t[0][0] for t in transitions(buffer.sample(200))}
    assert seen == {1.0}
    with pytest.raises(ConfigurationError, match="alpha=0 and no priorities"):
        make().update_priorities([0], [1.0])


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_a_saved_buffer_goes_on_to_the_bit(alpha):
    first, second = make(alpha=alpha, capacity=17), make(alpha=alpha, capacity=17)
    for number in range(6):
        store(first, episode(number, 5))
        if alpha:
            drawn = first.sample(8)
            first.update_priorities(drawn.idx, drawn.rew + 0.1 * number)
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    for number in (7, 8):
        for buffer in (first, second):
            store(buffer, episode(number, 4))
        for one, two in zip(first.sample(64), second.sample(64), strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(CheckpointError, match="expected"):
        make(alpha=alpha, k=1).load_state(state)


def test_a_passed_generator_decides_everything():
    samples = []
    for seed in (1, 2):
        buffer = HERBuffer(4, 1, GOAL, seed=seed)
        store(buffer, episode(0, 9), rng=np.random.default_rng(5))
        samples.append(buffer.sample(30, np.random.default_rng(6)))
    for one, two in zip(*samples, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "past"}, "unknown strategy 'past', expected one of future, final, episode"),
        ({"k": -1}, "k of HERBuffer is -1"),
        ({"alpha": 2.0}, "alpha of HERBuffer is 2.0, expected 0 to 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)


def test_episodes_that_do_not_fit_are_refused_and_nothing_is_stored():
    buffer = make(capacity=8)
    columns = list(map(list, zip(*episode(0, 5), strict=True)))
    with pytest.raises(ConfigurationError, match="nothing to sample"):
        buffer.sample(1)
    for place, value, message in [
        (0, [[1.0] * 5] * 5, "obs of an episode of 5 steps have shape"),
        (5, columns[5][:3], "achieved of an episode"),
        (2, [0.0] * 9, "expected \\[T\\] with 1 to 8 steps"),
        (3, [[float("nan")] * 4] * 5, "next_obs of the episode hold numbers that are not finite"),
    ]:
        changed = [*columns]
        changed[place] = value
        with pytest.raises(ConfigurationError, match=message):
            buffer.store_episode(*changed, reward)
    with pytest.raises(ConfigurationError, match="array of shape \\(2,\\) for one goal"):
        buffer.store_episode(*columns, lambda achieved, goal: achieved - goal)
    assert len(buffer) == 0
