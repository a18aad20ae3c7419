"""One gate, one seed: train, then score the policy at the end of training. The result is a line of JSON:
``python -m tests.learning.trial cartpole-ppo 0``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.learning.gates import Gate, find

#: Episodes of a score, and the seed of their environments; no training environment has it.
EPISODES, JUDGE_SEED = 100, 1_000_000
#: Parts into which the course of training is divided.
_PARTS = 20


@dataclass(frozen=True)
class Result:
    """What a trial found.

    Attributes:
        gate, seed, digest: which trial of which settings.
        score: mean return, or share of successes, of `EPISODES` deterministic episodes of the last policy.
        steps: of the environment that were learnt from.
        cpu_minutes: of the process while it trained, all threads, environments included; without imports and
            without the score.
        course: mean return of the episodes that ended in each twentieth of training, with its noise.
        load: of the machine in the last minute of training, where it can tell: CPU time grows with it.
    """

    gate: str
    seed: int
    digest: str
    score: float
    steps: int
    cpu_minutes: float
    course: tuple[float | None, ...] = ()
    load: float | None = None

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Result:
        """What `line` wrote."""
        found = json.loads(line)
        return cls(**{**found, "course": tuple(found["course"])})


def run(gate: Gate, seed: int) -> Result:
    """Train and score."""
    if gate.trainer == "bit_flip":
        from tests.learning import bit_flip

        score, steps, minutes = bit_flip.run(seed, gate.steps, EPISODES, JUDGE_SEED, **gate.extra)
        return Result(gate.name, seed, gate.digest, score, steps, minutes, load=_load())
    return _run_agent(gate, seed)


def _run_agent(gate: Gate, seed: int) -> Result:
    from optix_bus import make_agent
    from optix_bus.agents.factory import preload
    from optix_bus.pipelines import PipelineSettings, build_environment, make_pipeline
    from optix_bus.runtime.numerics import one_thread

    preload(gate.framework)
    with one_thread():
        began = time.process_time()
        agent: Any = make_agent(
            build_environment(gate.environment),
            gate.framework,
            gate.algorithm,
            hidden_sizes=gate.hidden_sizes,
            hyperparams=gate.hyperparams,
            rnn=gate.rnn,
            seed=seed,
        )
        settings = PipelineSettings(
            environments=gate.environments, window_steps=gate.window, keep_infos=False
        )
        pipeline = make_pipeline(gate.environment, {}, settings, seed=seed, agent=agent)
        windows, course = pipeline.episodes(), Course()
        count = gate.steps // (gate.environments * gate.window)
        for number in range(count):
            window = next(windows)
            agent.learn(window)
            course.add(number / count, window.metadata["episode_returns"])
        minutes, load = (time.process_time() - began) / 60.0, _load()
        judge = make_pipeline(
            gate.environment,
            {},
            PipelineSettings(environments=20, keep_infos=False),
            role="validation",
            seed=JUDGE_SEED,
            agent=agent,
        )
        judged = judge.evaluate(EPISODES, deterministic=True).metadata
        assert judged["deterministic"]
        pipeline.teardown()
        judge.teardown()
    score = float(np.mean(judged["episode_returns"]))
    steps = count * gate.environments * gate.window
    return Result(gate.name, seed, gate.digest, score, steps, minutes, tuple(course.means()), load)


def _load() -> float | None:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


class Course:
    """Returns of the episodes of training, by the part of training in which they ended."""

    def __init__(self) -> None:
        self._returns: list[list[float]] = [[] for _ in range(_PARTS)]

    def add(self, share: float, returns: list[float]) -> None:
        """Episodes that ended when this share of training was done."""
        self._returns[int(share * _PARTS)] += returns

    def means(self) -> list[float | None]:
        """One for each part; None where no episode ended."""
        return [round(float(np.mean(part)), 3) if part else None for part in self._returns]


def main(arguments: list[str] | None = None) -> None:
    """Print the result of a trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", help="its name in tests/learning/gates.py")
    parser.add_argument("seed", type=int)
    chosen = parser.parse_args(arguments)
    try:
        gate = next(gate for gate in find([chosen.gate]) if gate.name == chosen.gate)
    except ValueError as error:
        parser.error(str(error))
    print(run(gate, chosen.seed).line(), flush=True)


if __name__ == "__main__":
    main()
