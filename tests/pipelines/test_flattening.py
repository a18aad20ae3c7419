"""Observations of several parts reach agents as one vector, in the order of Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from optix_bus.agents import make_agent, space_spec
from optix_bus.errors import Unsuitable
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline, flatten_observation

SPACE = spaces.Dict(
    {
        "z": spaces.Box(-1, 1, (2, 2)),
        "a": spaces.Discrete(3, start=5),
        "m": spaces.Dict({"bits": spaces.MultiBinary(2), "pair": spaces.MultiDiscrete([2, 3], start=[0, 1])}),
        "t": spaces.Tuple([spaces.Box(0, 9, (), np.int64), spaces.Discrete(2)]),
    }
)
SIZE = 4 + 3 + 2 + 5 + 1 + 2


class Parts(gym.Env[Any, Any]):
    observation_space = SPACE
    action_space = spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space = spaces.Dict(dict(SPACE.items()))
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps, self.seen = 0, self.observation_space.sample()
        self.told = [self.seen]
        return self.seen, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.seen = self.observation_space.sample()
        self.told.append(self.seen)
        return self.seen, 1.0, self.steps % 9 == 0, self.steps % 7 == 0, {}


def test_a_flattened_observation_is_that_of_gymnasium() -> None:
    SPACE.seed(0)
    for _ in range(20):
        seen = SPACE.sample()
        flat = flatten_observation(SPACE, seen)
        assert flat.dtype == np.float32
        np.testing.assert_allclose(flat, spaces.flatten(SPACE, seen).astype(np.float32))


def test_windows_hold_the_vectors_in_the_order_of_the_keys() -> None:
    env = Parts()
    pipeline = BatchPipeline(env, make_agent(env, seed=0), window_size=6, seed=0)
    data = pipeline.collect()
    expected = [spaces.flatten(SPACE, seen) for seen in env.told[:6]]
    np.testing.assert_allclose(data.observations, np.float32(expected))
    np.testing.assert_allclose(data.final_observations[-1], spaces.flatten(SPACE, env.told[6]))
    assert list(SPACE.keys()) == ["a", "m", "t", "z"], "Gymnasium sorts the keys of a plain dict"
    assert (data.observations[:, :3].sum(axis=1) == 1.0).all()


def test_vectors_of_environments_in_every_mode_give_the_same_windows() -> None:
    modes = list(gym.vector.AutoresetMode)
    agent = make_agent(Parts(), seed=0)
    first = VectorBatchPipeline([Parts] * 3, agent, window_size=6, seed=1).collect(
        0, np.random.default_rng(0)
    )
    for mode in modes:
        envs = gym.vector.SyncVectorEnv([Parts] * 3, autoreset_mode=mode)
        data = VectorBatchPipeline(envs=envs, agent=agent, window_size=6, seed=1).collect(
            0, np.random.default_rng(0)
        )
        np.testing.assert_array_equal(data.observations, first.observations)
        np.testing.assert_array_equal(data.final_observations[:5], first.final_observations[:5])
        long = VectorBatchPipeline(envs=envs, agent=agent, window_size=20, seed=1).collect()
        assert long.final_observations.shape == (20, 3, SIZE)
        assert np.isfinite(long.final_observations).all()


@pytest.mark.parametrize("action", [spaces.Discrete(2), spaces.Box(-1, 1, (2,))], ids=["discrete", "box"])
def test_ppo_learns_from_them_and_its_policy_stays_portable(action: Any) -> None:
    class Acting(Parts):
        action_space = action

    env = Acting()
    spec = space_spec(env).observation
    assert (spec.kind, spec.shape, spec.dtype) == ("dict", (SIZE,), "float32")
    agent = make_agent(env, algorithm="ppo", seed=0, hyperparams={"n_epochs": 2})
    pipeline = VectorBatchPipeline([Acting] * 2, agent, window_size=40, seed=0)
    window = pipeline.collect()
    window.metadata["policy_version"] = 0
    report: Any = agent.learn(window)
    assert report["initial_ratio_error"] == 0.0
    assert report["samples"] == 80
    assert agent.state().metadata["policy"]["kind"] == "mlp"  # type: ignore[attr-defined]
    chosen = agent.act(flatten_observation(SPACE, SPACE.sample()))
    assert np.shape(chosen) == action.shape
    assert pipeline.evaluate(3).length > 0


def test_parts_without_a_fixed_length_are_refused() -> None:
    class Graphs(Parts):
        observation_space = spaces.Dict({"g": spaces.Sequence(spaces.Discrete(3))})

    with pytest.raises(Unsuitable, match="cannot be one vector"):
        make_agent(Graphs(), seed=0)
    with pytest.raises(Unsuitable, match=r"environment Graphs has observations of .* cannot be one vector"):
        BatchPipeline(Graphs(), make_agent(Parts(), seed=0)).setup()
