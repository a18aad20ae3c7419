"""Replay: what is stored, what is drawn, what is kept; against the definition step by step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.rl import ring
from optix_bus.rl.replay import ReplayBuffer
from tests.oracles import replay as oracle

GAMMA = 0.9


class World:
    """Environments that count their steps: every observation names its environment and its time."""

    def __init__(self, seed, width, ends=0.15):
        self._rng = np.random.default_rng(seed)
        self._width, self._ends = width, ends
        self._time = np.arange(width) * 10_000
        self.streams = [[] for _ in range(width)]

    def window(self, steps, gaps=False):
        """The next steps as an update sees them; with gaps, some rows after an end are no transitions."""
        shape = (steps, self._width)
        columns = {name: np.zeros(shape) for name in ("observations", "actions", "rewards", "next")}
        flags = {name: np.zeros(shape, bool) for name in ("terminated", "truncated")}
        valid = np.ones(shape, bool)
        for b in range(self._width):
            resting = False
            for t in range(steps):
                columns["observations"][t, b] = self._time[b]
                if resting:
                    valid[t, b], resting = False, False
                    continue
                self._time[b] += 1
                end = self._rng.choice(
                    ["", "terminated", "truncated"], p=[1 - 2 * self._ends, *[self._ends] * 2]
                )
                action, reward = self._rng.integers(5), np.float32(self._rng.standard_normal())
                row = oracle.Step(self._time[b] - 1, action, reward, self._time[b], str(end))
                self.streams[b].append(row)
                columns["actions"][t, b], columns["rewards"][t, b] = action, reward
                columns["next"][t, b] = row.next_observation
                if end:
                    flags[str(end)][t, b] = True
                    self._time[b] += 50  # a new episode begins elsewhere
                    resting = gaps and t + 1 < steps
        follows = np.zeros(shape, bool)
        follows[:-1] = valid[1:] & ~(flags["terminated"] | flags["truncated"])[:-1]
        after_rows = np.flatnonzero(valid & ~flags["terminated"] & ~follows)
        after = columns.pop("next").reshape(-1, 1)[after_rows]
        columns["observations"] = columns["observations"][..., None]
        return SimpleNamespace(**columns, **flags, valid=valid, after_rows=after_rows, after=after)


def make(capacity=10_000, **changes):
    settings = {"n_step": 1, "gamma": GAMMA, **changes}
    return ReplayBuffer(capacity, ((1,), np.float32), ((), np.int64), **settings)


def content(replay):
    """All that is stored, as the definition writes it, sorted."""
    found = replay.at(np.arange(len(replay)), np.ones(len(replay), np.float32))
    rows = zip(
        found.observations[:, 0],
        found.actions,
        found.rewards,
        np.where(found.discounts > 0, found.next_observations[:, 0], 0.0),
        found.discounts,
        strict=True,
    )
    return np.array(sorted(rows))


def expected(world, n):
    rows = [t for stream in world.streams for t in oracle.transitions(stream, n, GAMMA)]
    return np.array(sorted((o, a, r, x if d > 0 else 0.0, d) for o, a, r, x, d in rows))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("lengths", [[40], [1] * 30, [7, 1, 3, 12, 2, 5], [3, 3, 3, 3]])
def test_every_step_becomes_one_transition_whatever_the_windows(n, lengths, gaps):
    """Never over an end, never from one environment to another, nothing lost at the end of a window."""
    for seed in range(3):
        world, replay = World(seed, width=3), make(n_step=n)
        for length in lengths:
            replay.add(world.window(length, gaps))
        replay.flush()
        np.testing.assert_allclose(content(replay), expected(world, n), rtol=1e-5, atol=1e-6)


def test_without_a_flush_only_open_ends_are_missing_and_a_single_step_waits_for_nothing():
    world, one, three = World(0, width=2, ends=0.0), make(), make(n_step=3)
    for _ in range(2):
        window = world.window(10)
        one.add(window)
        three.add(window)
    assert len(one) == 40
    assert len(three) == 40 - 2 * 2
    three.flush()
    assert len(three) == 40


def test_a_window_that_does_not_go_on_from_the_last_one_is_not_joined_to_it():
    world, replay = World(0, width=2, ends=0.0), make(n_step=3)
    replay.add(world.window(5))
    for stream in world.streams:
        stream[-1] = stream[-1]._replace(ends="truncated")
    world._time += 7  # as after a crash of the environments, which nobody recorded
    replay.add(world.window(5))
    replay.flush()
    np.testing.assert_allclose(content(replay), expected(world, 3), rtol=1e-5)


def test_another_number_of_environments_ends_what_was_open():
    first, second, replay = World(0, width=3, ends=0.0), World(1, width=2, ends=0.0), make(n_step=4)
    replay.add(first.window(6))
    replay.add(second.window(6))
    replay.flush()
    both = np.array(sorted(map(tuple, [*expected(first, 4), *expected(second, 4)])))
    np.testing.assert_allclose(content(replay), both, rtol=1e-5, atol=1e-6)


def test_a_step_without_known_successor_is_left_out_and_the_one_before_ends_there():
    """As `read_experience` marks it: not valid, and what led to it is known from its own observation."""
    window = World(0, width=1, ends=0.0).window(6)
    window.valid[3] = False
    window.truncated[3] = True
    replay = make(n_step=3)
    replay.add(window)
    replay.flush()
    rows = content(replay)
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(rows[:, 3], [3, 3, 3, 6, 6])
    np.testing.assert_allclose(rows[:, 4], [GAMMA**3, GAMMA**2, GAMMA, GAMMA**2, GAMMA], rtol=1e-6)


def test_the_newest_stay_and_the_oldest_go():
    world, replay = World(0, width=1, ends=0.0), make(capacity=10)
    for _ in range(4):
        replay.add(world.window(7))
    assert len(replay) == 10
    assert replay.added == 28
    np.testing.assert_array_equal(content(replay)[:, 0], np.arange(18, 28))
    replay.add(world.window(25))
    np.testing.assert_array_equal(content(replay)[:, 0], np.arange(43, 53))


def test_a_new_discount_holds_for_what_is_stored():
    world, replay = World(3, width=2), make(n_step=3)
    replay.add(world.window(20))
    replay.flush()
    replay.gamma = 0.5
    rows = [t for stream in world.streams for t in oracle.transitions(stream, 3, 0.5)]
    np.testing.assert_allclose(content(replay)[:, 4], [r.discount for r in sorted(rows)], rtol=1e-6)
    np.testing.assert_allclose(content(replay)[:, 2], [r.reward for r in sorted(rows)], rtol=1e-4, atol=1e-6)


def _prioritized(alpha, size=50, seed=0):
    replay = make(alpha=alpha)
    replay.add(World(0, width=1, ends=0.0).window(size))
    errors = np.random.default_rng(seed).exponential(size=size)
    replay.update_priorities(np.arange(size), errors)
    return replay, errors + replay.epsilon


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_follow_the_probabilities(alpha):
    """Chi-square of 100,000 draws; in small batches, as they are used, and with known errors."""
    replay, priorities = _prioritized(alpha)
    rng = np.random.default_rng(1)
    drawn = np.concatenate([replay.sample(20, rng).indices for _ in range(5_000)])
    share = priorities**alpha / (priorities**alpha).sum()
    np.testing.assert_allclose(replay.probabilities(), share, rtol=1e-9)
    found = stats.chisquare(np.bincount(drawn, minlength=50), share * len(drawn))
    assert found.pvalue > 0.01


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.4), (1.0, 1.0), (0.7, 0.0)])
def test_weights_are_those_of_the_definition(alpha, beta):
    replay, priorities = _prioritized(alpha)
    found = replay.sample(32, np.random.default_rng(2), beta=beta)
    wanted = oracle.weights(priorities.tolist(), found.indices.tolist(), alpha, beta)
    np.testing.assert_allclose(found.weights, wanted, rtol=1e-5)
    assert found.weights.max() == 1.0


def test_new_transitions_have_the_greatest_priority_so_far():
    replay = make(alpha=1.0)
    world = World(0, width=1, ends=0.0)
    replay.add(world.window(4))
    np.testing.assert_allclose(replay.probabilities(), 0.25)
    replay.update_priorities([0, 1], [0.5, 7.0])
    replay.update_priorities([1], [2.0])
    replay.add(world.window(1))
    share = replay.probabilities()
    assert share[4] == pytest.approx(share[2] * 7.0, rel=1e-4)


def test_changing_alpha_keeps_the_content_and_its_priorities():
    replay, priorities = _prioritized(1.0)
    before = content(replay)
    for alpha in (0.0, 0.3, 0.6):
        replay.alpha = alpha
        share = priorities**alpha / (priorities**alpha).sum()
        np.testing.assert_allclose(replay.probabilities(), share, rtol=1e-9)
    np.testing.assert_array_equal(content(replay), before)


def test_priorities_given_while_draws_are_uniform_are_kept_for_later():
    replay, priorities = _prioritized(0.0)
    replay.alpha = 1.0
    np.testing.assert_allclose(replay.probabilities(), priorities / priorities.sum(), rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("n", [1, 3])
def test_a_state_goes_on_to_the_bit(alpha, n, tmp_path):
    world = World(5, width=3)
    first = make(capacity=70, n_step=n, alpha=alpha)
    second = make(capacity=70, n_step=n, alpha=alpha, path=tmp_path / "mapped")
    second.add(World(9, width=2).window(11))
    rng = np.random.default_rng(0)
    for _ in range(4):
        first.add(world.window(9))
        found = first.sample(8, rng)
        first.update_priorities(found.indices, found.rewards)
    second.load_state(first.state())
    assert (len(second), second.added) == (len(first), first.added)
    window = world.window(6)
    for replay in (first, second):
        replay.add(window)
    one, two = (replay.sample(64, np.random.default_rng(4)) for replay in (first, second))
    for name in one.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    one, two = (replay.state().arrays for replay in (first, second))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_state_is_a_copy():
    world, replay = World(0, width=1), make(capacity=10)
    replay.add(world.window(10))
    state = replay.state()
    before = {name: array.copy() for name, array in state.arrays.items()}
    replay.add(world.window(10))
    for name, array in state.arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("capacity", [5, 17, 40])
def test_another_capacity_takes_the_newest(capacity):
    world, replay = World(0, width=1, ends=0.0), make(capacity=20, alpha=0.5)
    replay.add(world.window(33))
    replay.update_priorities(np.arange(20), np.arange(20))
    other = replay.resized(capacity)
    held = min(capacity, 20)
    np.testing.assert_array_equal(content(other)[:, 0], np.arange(33 - held, 33))
    share = dict(
        zip(replay.at(np.arange(20), np.ones(20)).observations[:, 0], np.arange(20) + 1e-6, strict=True)
    )
    wanted = np.array([share[o] for o in other.at(np.arange(held), np.ones(held)).observations[:, 0]]) ** 0.5
    np.testing.assert_allclose(other.probabilities(), wanted / wanted.sum(), rtol=1e-6)


def test_another_n_keeps_what_it_can():
    world, replay = World(0, width=1, ends=0.0), make(n_step=2)
    replay.add(world.window(6))
    longer = replay.resized(100, n_step=4)
    longer.add(world.window(6))
    longer.flush()
    assert len(longer) == 12
    assert replay.resized(100, n_step=1).at(np.arange(1), np.ones(1)).steps == [1]


def test_mapped_files_hold_the_same_and_lie_where_they_are_asked_for(tmp_path, monkeypatch):
    world = World(0, width=2)
    window = world.window(30)
    plain, mapped = make(alpha=0.5), make(alpha=0.5, path=tmp_path / "replay")
    monkeypatch.setattr(ring, "IN_MEMORY", 1000)
    large = make(alpha=0.5)
    for replay in (plain, mapped, large):
        replay.add(window)
    assert [r.is_mapped for r in (plain, mapped, large)] == [False, True, True]
    assert (tmp_path / "replay" / "observations.bin").stat().st_size == 10_000 * 4
    np.testing.assert_array_equal(content(plain), content(mapped))
    np.testing.assert_array_equal(content(plain), content(large))


def test_what_does_not_fit_is_refused_and_nothing_has_changed():
    world, replay = World(0, width=1), make()
    replay.add(world.window(10))
    before = content(replay)
    with pytest.raises(CheckpointError, match="2-step transitions, expected 1"):
        replay.load_state(make(n_step=2).state())
    other = ReplayBuffer(100, ((3,), np.float32), ((), np.int64))
    with pytest.raises(CheckpointError, match="observations: found float32"):
        replay.load_state(other.state())
    with pytest.raises(CheckpointError, match="found no replay"):
        replay.load_state(type(replay.state())({}, {}))
    np.testing.assert_array_equal(content(replay), before)


def test_numbers_out_of_range_and_an_empty_replay_are_refused():
    for wrong in ({"capacity": 0}, {"n_step": 0}, {"alpha": 1.5}, {"alpha": -0.1}):
        with pytest.raises(ConfigurationError, match="expected"):
            make(**wrong)
    with pytest.raises(ConfigurationError, match="empty"):
        make().sample(4, np.random.default_rng(0))
