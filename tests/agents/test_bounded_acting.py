"""Heads for bounded continuous actions: squashed Gaussian and deterministic."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from optix_bus.agents.acting.deterministic import DeterministicPolicy
from optix_bus.agents.acting.load import load_policy
from optix_bus.agents.acting.squashed_gaussian import SquashedGaussianPolicy, log_density
from optix_bus.agents.action_box import ActionBox
from optix_bus.errors import Unsuitable
from optix_bus.types import ArraySpec, NamedArrays
from tests.oracles.squashed_gaussian import density

LOPSIDED = ActionBox((2,), (-1.0, 10.0), (3.0, 10.5))
LOG_STD = (-5.0, 2.0)


class _Constant:
    """A forward pass that answers the same for every row, with rows beyond B as `mlp.Forward` has them."""

    def __init__(self, *numbers):
        self.row = np.float32(numbers)

    def __call__(self, observations):
        return np.tile(self.row, (len(observations) + 3, 1)), len(observations)


def _squashed(*numbers, box=LOPSIDED, **options):
    return SquashedGaussianPolicy(_Constant(*numbers), box, LOG_STD, rng=np.random.default_rng(0), **options)


ROWS = np.zeros((20_000, 3), np.float32)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-2.0, 2.0)])
def test_the_density_of_a_squashed_number_integrates_to_1(mean, std):
    # Over u, where it is smooth: dx = (1 - tanh(u)^2) du.
    u = np.linspace(mean - 12 * std, mean + 12 * std, 200_001)
    noise = ((u - mean) / std)[:, None]
    logs = log_density(np.full_like(noise, mean), np.full_like(noise, math.log(std)), noise)
    jacobian = 1.0 / np.cosh(u) ** 2
    assert np.trapezoid(np.exp(logs) * jacobian, u) == pytest.approx(1.0, abs=1e-9)


def test_the_density_is_that_of_the_change_of_variables_in_the_units_of_the_environment():
    policy = _squashed(0.3, -0.5, -0.7, 0.2)
    acted = policy.act_batch(ROWS[:500])
    for action, log_prob in zip(acted.actions.astype(float), acted.log_probs, strict=True):
        parts = [
            density(a, m, math.exp(s), low, high)
            for a, m, s, low, high in zip(action, (0.3, -0.5), (-0.7, 0.2), *_bounds(LOPSIDED), strict=True)
        ]
        # The action in float32 is known to 1e-6, and atanh is steep near the bounds.
        assert log_prob == pytest.approx(math.log(math.prod(parts)), abs=2e-2)


def _bounds(box):
    return box.low, box.high


@pytest.mark.parametrize("u", [-20.0, 20.0, 80.0])
def test_the_density_is_finite_and_exact_far_out(u):
    found = float(log_density(np.array([[u]]), np.array([[0.0]]), np.array([[0.0]]))[0])
    exact = -0.5 * math.log(2 * math.pi) - (
        2 * math.log(2) - 2 * abs(u) - 2 * math.log1p(math.exp(-2 * abs(u)))
    )
    assert found == pytest.approx(exact, rel=1e-12)


def test_samples_and_choices_reach_the_environment_in_its_own_units():
    policy = _squashed(0.0, 0.0, 1.0, 1.0)
    acted = policy.act_batch(ROWS)
    assert acted.actions.dtype == np.float32
    assert acted.log_probs.dtype == np.float32
    low, high = LOPSIDED.bounds
    assert (acted.actions >= low).all()
    assert (acted.actions <= high).all()
    assert (acted.actions.min(0) < low + 0.02 * (high - low)).all()
    assert (acted.actions.max(0) > high - 0.02 * (high - low)).all()
    np.testing.assert_allclose(acted.actions.mean(0), LOPSIDED.centre, atol=0.05)
    chosen = policy.act_batch(ROWS[:4], deterministic=True)
    assert chosen.log_probs is None
    np.testing.assert_allclose(chosen.actions, np.tile(LOPSIDED.centre, (4, 1)))
    far = _squashed(50.0, -50.0, 0.0, 0.0).act_batch(ROWS[:2], deterministic=True)
    np.testing.assert_array_equal(far.actions, np.float32([[3.0, 10.0]] * 2))


def test_a_standard_deviation_out_of_bounds_counts_as_the_bound():
    wide, widest = (_squashed(0.0, 0.0, s, s).act_batch(ROWS[:50]) for s in (30.0, 2.0))
    np.testing.assert_array_equal(wide.actions, widest.actions)
    np.testing.assert_array_equal(wide.log_probs, widest.log_probs)


@pytest.mark.parametrize("kind", ["squashed", "deterministic"])
def test_random_actions_are_uniform_and_only_for_exploring(kind):
    if kind == "squashed":
        policy = _squashed(5.0, 5.0, 0.0, 0.0, random=True)
    else:
        policy = DeterministicPolicy(
            _Constant(5.0, 5.0), LOPSIDED, 0.1, random=True, rng=np.random.default_rng(0)
        )
    acted = policy.act_batch(ROWS)
    low, high = LOPSIDED.bounds
    unit = (acted.actions - low) / (high - low)
    for column in unit.T:
        counts = np.histogram(column, 10, (0, 1))[0]
        assert (np.abs(counts - 2000) < 250).all()
    if kind == "squashed":
        np.testing.assert_allclose(np.exp(acted.log_probs), 1.0 / np.prod(high - low), rtol=1e-5)
    chosen = policy.act_batch(ROWS[:2], deterministic=True).actions
    np.testing.assert_allclose(chosen, LOPSIDED.to_units(np.tanh(np.full((2, 2), 5.0, np.float32))))


def test_noise_is_scaled_to_the_range_of_each_action_and_stays_within_bounds():
    policy = DeterministicPolicy(_Constant(0.0, 0.0), LOPSIDED, 0.1, rng=np.random.default_rng(0))
    actions = policy.act_batch(ROWS).actions
    np.testing.assert_allclose(actions.std(0), 0.1 * LOPSIDED.reach, rtol=0.03)
    np.testing.assert_allclose(actions.mean(0), LOPSIDED.centre, atol=0.01)
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.03
    edge = DeterministicPolicy(_Constant(9.0, -9.0), LOPSIDED, 0.5, rng=np.random.default_rng(0))
    actions = edge.act_batch(ROWS).actions
    assert ((actions >= LOPSIDED.bounds[0]) & (actions <= LOPSIDED.bounds[1])).all()
    assert np.ptp(actions, axis=0).min() > 0
    chosen = edge.act_batch(ROWS[:2], deterministic=True).actions
    np.testing.assert_allclose(chosen, np.float32([[3.0, 10.0]] * 2))


def test_an_actor_that_ends_in_a_tanh_is_not_squashed_twice():
    plain = DeterministicPolicy(_Constant(1.0, -1.0), LOPSIDED, 0.0, squash=False)
    np.testing.assert_array_equal(plain.act_batch(ROWS[:1]).actions, np.float32([[3.0, 10.0]]))


@pytest.mark.parametrize("head", ["squashed_gaussian", "deterministic"])
def test_a_description_that_went_through_json_acts_the_same(head):
    rng = np.random.default_rng(3)
    outputs = 4 if head == "squashed_gaussian" else 2
    arrays = {
        "actor.weight": rng.standard_normal((outputs, 3)).astype(np.float32),
        "actor.bias": np.zeros(outputs, np.float32),
    }
    description = {
        "format": 1, "kind": "mlp", "head": head, **LOPSIDED.description(), "log_std": [-5.0, 2.0],
        "noise": 0.2, "squash": True, "random": False, "normalizer": None,
        "layers": [{"op": "linear", "weight": "actor.weight", "bias": "actor.bias"}],
    }  # fmt: skip
    policy = load_policy(
        NamedArrays(arrays, {"policy": json.loads(json.dumps(description))}), np.random.default_rng(1)
    )
    x = rng.standard_normal((6, 3)).astype(np.float32)
    out = x @ arrays["actor.weight"].T
    expected = LOPSIDED.to_units(np.tanh(out[:, :2]))
    np.testing.assert_allclose(policy.act_batch(x, deterministic=True).actions, expected, rtol=1e-5)
    first = policy.act_batch(x).actions
    policy.reseed(np.random.default_rng(1))
    np.testing.assert_array_equal(policy.act_batch(x).actions, first)
    assert not np.allclose(first, expected)


def test_units_and_cube_are_inverse_to_each_other_in_any_shape():
    box = ActionBox((2, 2), (-1.0, 0.0, -3.0, 5.0), (1.0, 4.0, -2.0, 9.0))
    unit = box.draw(np.random.default_rng(0), 50)
    actions = box.to_units(unit)
    assert actions.shape == (50, 2, 2)
    np.testing.assert_allclose(box.to_unit(actions), unit, atol=1e-6)
    np.testing.assert_allclose(actions.reshape(50, 4).min(0), box.low, atol=0.5)
    assert ActionBox.from_description(json.loads(json.dumps(box.description()))) == box


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionBox((2,), (-1.0,), (1.0,)), "expected 2 finite numbers each"),
        (lambda: ActionBox((1,), (1.0,), (1.0,)), "low below high"),
        (lambda: ActionBox((1,), (-math.inf,), (1.0,)), "RescaleAction"),
        (lambda: ActionBox.of(ArraySpec("discrete", (), "int64", n=2)), "actions of discrete int64"),
        (lambda: ActionBox.of(ArraySpec("box", (1,), "int64", low=(0.0,), high=(1.0,))), "box int64"),
        (lambda: LOPSIDED.to_unit(np.zeros((4, 3))), "actions of 3 numbers in the window, expected 2"),
        (lambda: LOPSIDED.to_unit(np.full((4, 2), np.nan)), "found 8 of 8 numbers"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(make, message):
    with pytest.raises(Unsuitable, match=message):
        make()
