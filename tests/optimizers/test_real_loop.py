"""Each tuner in the loop itself: pipeline, learner, evaluator, scheduler and optimizer in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus import BaseAgent, BasePipeline, EpisodeData, HyperparamSet, LoopCallback, RLOptimizer
from tests.optimizers.worlds import TUNERS


class Student(BaseAgent):
    """Its policy is a number: how good the hyperparameter was, at the time when that counts."""

    default_param_bounds = {"rate": (1e-4, 1.0)}  # noqa: RUF012 - as users write it
    default_log_params = ("rate",)
    best = 3e-2

    def __init__(self, acts_at_once: bool) -> None:
        self.acts_at_once = acts_at_once
        self.params: dict[str, Any] = {"rate": 3e-3, "name": "kept"}
        self.taught = self.quality

    @property
    def quality(self) -> float:
        """Highest where the rate is right; one unit is a decade off."""
        return 2.0 - float(np.log10(self.params["rate"] / self.best)) ** 2

    def act(self, observation: Any) -> float:
        return self.quality if self.acts_at_once else self.taught

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.taught = self.quality
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: str) -> None:
        Path(path).write_text(repr(self.taught))

    def load_weights(self, path: str) -> None:
        self.taught = float(Path(path).read_text())


class Exam(BasePipeline):
    """Windows of one episode of one step, whose reward is the action, with a little noise and drift."""

    def __init__(self) -> None:
        self.agent: Any = None
        self.rng = np.random.default_rng(0)

    def set_agent(self, agent: Any) -> None:
        self.agent = agent

    def setup(self) -> None:
        """Nothing to open."""

    def teardown(self) -> None:
        """Nothing to close."""

    def episodes(self) -> Any:
        number = 0
        while True:
            reward = self.agent.act(np.zeros(1)) + 0.002 * number + 0.01 * float(self.rng.normal())
            yield EpisodeData(
                observations=np.zeros((1, 1), np.float32),
                actions=np.zeros(1),
                rewards=np.array([reward]),
                terminated=np.array([True]),
                truncated=np.array([False]),
                infos=[{}],
                episode_id=number,
            )
            number += 1


class Rates(LoopCallback):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        self.seen.append(new_params)


@pytest.mark.parametrize("acts_at_once", [True, False], ids=["act-type", "learn-type"])
@pytest.mark.parametrize("method", sorted(TUNERS))
def test_it_finds_the_right_rate_in_the_loop_whenever_the_rate_acts(method, acts_at_once, tmp_path):
    agent, rates = Student(acts_at_once), Rates()
    found = TUNERS[method](seed=3)
    opt = RLOptimizer(
        agent=agent,
        pipeline=Exam(),
        optimizer=found,
        callbacks=[rates],
        checkpoint_dir=str(tmp_path / "snapshots"),
        max_episodes=250,
        min_episodes_before_dormant=1000,
        max_interval_episodes=1,
    )
    finished = opt.run()
    assert finished.windows == 250
    rate = 10.0 ** (4.0 * found.centre["rate"] - 4.0)
    assert abs(np.log10(rate / agent.best)) < 0.4, f"{rate:.2g} after {len(rates.seen)} changes"
    assert all(1e-4 <= seen["rate"] <= 1.0 and seen["name"] == "kept" for seen in rates.seen)
