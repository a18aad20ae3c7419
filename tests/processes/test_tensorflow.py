"""An agent in TensorFlow, whose threads must not be there before processes are forked, in processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.runs import TOPOLOGIES, leftovers, streams, up, weights

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_it_learns_in_forked_processes_what_it_learns_inline(tmp_path: Path) -> None:
    topology, runs = TOPOLOGIES / "cartpole_ppo_tf.yaml", (tmp_path / "processes", tmp_path / "inline")
    for run, options in zip(runs, ((), ("--inline",)), strict=True):
        done = up(topology, run, "--set", "nodes.scheduler.max_episodes=3", *options)
        assert done.code == 0, done.err
        assert leftovers(run) == []
    assert (runs[0] / "logs" / "learner.log").read_text() == ""
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0])
    assert streams(runs[0]) == streams(runs[1])
