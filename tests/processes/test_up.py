"""Whole runs in real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from optix_bus.runtime.run_directory import RunDirectory
from tests.processes.runs import (
    TOPOLOGIES,
    collected_windows,
    command,
    journal,
    leftovers,
    started,
    streams,
    up,
    wait_until,
    weights,
)

pytestmark = pytest.mark.processes

SHORT = ("--set", "nodes.scheduler.max_episodes=6")
SMALL = (
    *SHORT,
    "--set",
    "nodes.pipeline.environments=2",
    "--set",
    "nodes.pipeline.window_steps=64",
    "--set",
    "nodes.validation.episodes=4",
    "--set",
    "nodes.validation.environments=4",
)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    """The demo topology, short: twice in processes, once inline, once with another seed."""
    base = tmp_path_factory.mktemp("runs")
    demo = TOPOLOGIES / "cartpole_ppo.yaml"
    names = ("first", "second", "inline", "other")
    options = (("--seed", "3"), ("--seed", "3"), ("--seed", "3", "--inline"), ("--seed", "4"))
    for name, option in zip(names, options, strict=True):
        done = up(demo, base / name, *SHORT, *option)
        assert done.code == 0, done.err
    return base / "first", base / "second", base / "inline", base / "other"


def test_the_same_seed_gives_the_same_streams_and_the_same_weights(
    twice: tuple[Path, Path, Path, Path],
) -> None:
    first, second, _, other = twice
    assert streams(first) == streams(second)
    assert weights(first) == weights(second)
    assert weights(first)
    assert streams(first)["learner"] != streams(other)["learner"]


def test_inline_equals_processes(twice: tuple[Path, Path, Path, Path]) -> None:
    first, _, inline, _ = twice
    assert weights(first) == weights(inline)
    assert streams(first) == streams(inline)


def test_afterwards_nothing_of_the_run_is_left(twice: tuple[Path, Path, Path, Path]) -> None:
    for run in twice[:2]:
        assert leftovers(run) == []


def test_the_journal_is_gapless_and_begins_with_who_is_ready(twice: tuple[Path, Path, Path, Path]) -> None:
    events = journal(twice[0])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ready = [event["body"]["node"] for event in events if event["type"] == "NodeReady"]
    assert sorted(ready) == sorted(
        ["checkpoint", "evaluator", "hub", "learner", "optimizer", "pipeline", "scheduler", "validation"]
    )
    assert events[-1]["type"] == "RunFinished"


def test_a_policy_is_evaluated_from_disk_in_a_new_process(twice: tuple[Path, Path, Path, Path]) -> None:
    done = command("checkpoint", "evaluate", str(twice[0]), "--episodes", "10", "--seed", "10000", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert result["episodes"] == 10
    assert result["min"] <= result["mean"] <= result["max"]
    assert result["standard_error"] >= 0
    assert result["policy_version"] >= 0
    again = command("checkpoint", "evaluate", str(twice[0]), "--episodes", "10", "--seed", "10000", "--json")
    assert json.loads(again.stdout) == result


@pytest.mark.parametrize("name", ["cartpole_one_pipeline.yaml", "custom_agent.yaml", "forecaster.yaml"])
def test_every_topology_of_the_repository_runs(name: str, tmp_path: Path) -> None:
    done = up(TOPOLOGIES / name, tmp_path / "run", *SHORT)
    assert done.code == 0, done.err
    assert "Training complete" in done.out
    assert weights(tmp_path / "run")
    assert leftovers(tmp_path / "run") == []


def test_an_agent_of_ones_own_shares_a_process_with_its_pipelines(tmp_path: Path) -> None:
    done = up(TOPOLOGIES / "custom_agent.yaml", tmp_path / "run", *SHORT)
    assert done.code == 0, done.err
    processes = {p.name: sorted(p.nodes) for p in RunDirectory(tmp_path / "run").read().processes}
    assert processes["agent"] == ["learner", "pipeline", "validation"]
    evaluated = command("checkpoint", "evaluate", str(tmp_path / "run"), "--episodes", "4", "--json")
    assert json.loads(evaluated.stdout)["episodes"] == 4


def test_lookahead_overlaps_and_is_still_reproducible(tmp_path: Path) -> None:
    demo = TOPOLOGIES / "cartpole_ppo.yaml"
    options = (*SMALL, "--set", "nodes.scheduler.lookahead=1")
    for name in ("a", "b"):
        done = up(demo, tmp_path / name, *options)
        assert done.code == 0, done.err
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    events = journal(tmp_path / "a")
    collected = [e["seq"] for e in events if e["type"] == "CollectWindow" and e["body"]["window"] == 1]
    learned = [e["seq"] for e in events if e["type"] == "PolicyUpdated" and e["body"]["window"] == 0]
    assert collected[0] < learned[0]
    acted = [e["body"] for e in events if e["type"] == "CollectWindow"]
    assert [body["policy_version"] for body in acted[:4]] == [0, 0, 1, 2]


def test_with_room_for_few_windows_a_run_waits_and_never_stops(tmp_path: Path) -> None:
    """Blobs live until the cut behind the next, and who waits for room may not have taken that one yet."""
    options = ("--set", "run.blob_budget_bytes=1048576", "--set", "nodes.scheduler.max_episodes=8")
    done = up(
        TOPOLOGIES / "cartpole_ppo.yaml", tmp_path / "run", *options, "--set", "nodes.scheduler.lookahead=1"
    )
    assert done.code == 0, done.err
    cuts = [e["body"]["window"] for e in journal(tmp_path / "run") if e["type"] == "CutAnnounced"]
    assert len(cuts) > 2, "few bytes bring cuts forward"


def test_ctrl_c_restores_the_best_policy_and_leaves_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(TOPOLOGIES / "cartpole_ppo.yaml", run) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130
    assert "interrupted" in out
    assert "restored" in out
    assert leftovers(run) == []
    assert weights(run)


@pytest.mark.parametrize("node", ["learner", "pipeline", "scheduler", "hub"])
def test_without_restarts_a_node_that_is_killed_ends_the_run_with_its_cause_on_the_last_line(
    node: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(TOPOLOGIES / "cartpole_ppo.yaml", run, "--set", "run.restarts=0") as process:
        wait_until(run, lambda folder: collected_windows(folder) > 1)
        victim = next(p for p in RunDirectory(run).read().processes if p.name == node)
        os.kill(victim.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 3
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: node '{node}' (pid {victim.pid}) died: killed by SIGKILL")
    assert leftovers(run) == []


def test_nobody_survives_a_killed_supervisor_and_down_sweeps_what_it_left(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(TOPOLOGIES / "cartpole_ppo.yaml", run) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 1)
        record = RunDirectory(run).read()
        process.kill()
        process.wait(30)
        wait_until(run, lambda _: not any(child.alive() for child in record.processes), 10.0)
    done = command("down", str(run), "--json")
    assert json.loads(done.stdout)["swept"] == []
    assert leftovers(run) == []


def test_ps_lists_every_node_and_the_hub_and_down_ends_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = command("up", str(TOPOLOGIES / "cartpole_ppo.yaml"), "--run-dir", str(run), "-d", "--json")
    assert done.returncode == 0, done.stderr
    try:
        listed = json.loads(command("ps", str(run), "--json").stdout)
        rows = {row["name"]: row for row in listed["nodes"]}
        assert {"hub", "learner", "pipeline", "validation", "scheduler", "supervisor"} <= set(rows)
        assert all(row["state"] == "ready" and row["pid"] > 0 for row in rows.values())
        assert rows["learner"]["incarnation"] == 1
        assert rows["learner"]["restarts"] == 0
        heavy = ("learner", "nursery", "supervisor")
        light = [row["rss_bytes"] for name, row in rows.items() if name not in heavy]
        assert max(light) < 70 * 2**20
    finally:
        ended = command("down", str(run), "--json")
    assert ended.returncode == 0, ended.stderr
    assert leftovers(run) == []
    assert "learner" in command("logs", str(run)).stdout or (run / "logs" / "learner.log").exists()


def write_topology(folder: Path, module: str, environment: str, agent: str = "") -> Path:
    """The demo over an environment, or an agent, of the test's own."""
    text = (TOPOLOGIES / "cartpole_ppo.yaml").read_text()
    text = text.replace("id: CartPole-v1", f"id: {environment}")
    (folder / "own_module.py").write_text(module)
    if agent:
        start, end = text.index("agent:"), text.index("nodes:")
        text = text[:start] + agent + "\n" + text[end:]
    path = folder / "topology.yaml"
    path.write_text(text)
    return path


FRAGILE = """
import gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class Fragile(CartPoleEnv):
    steps = 0

    def step(self, action):
        type(self).steps += 1
        if type(self).steps > 1500:
            raise RuntimeError("the simulator has crashed")
        return super().step(action)

    def reset(self, **options):
        RESET
        return super().reset(**options)


gym.register("Fragile-v0", entry_point=Fragile, max_episode_steps=500)
"""


@pytest.mark.parametrize(
    ("reset", "words"),
    [("pass", "the simulator has crashed"), ("raise OSError('no licence')", "no licence")],
)
def test_an_environment_that_raises_gives_one_clear_error_and_no_invented_data(
    reset: str, words: str, tmp_path: Path
) -> None:
    topology = write_topology(tmp_path, FRAGILE.replace("RESET", reset), "own_module:Fragile-v0")
    done = up(topology, tmp_path / "run")
    assert done.code == 3
    assert words in done.last_line
    assert done.last_line.startswith("error: node 'pipeline'") or "validation" in done.last_line
    assert "Fragile-v0" in done.last_line
    learned = [e for e in journal(tmp_path / "run") if e["type"] == "WindowCollected"]
    assert all(event["body"]["role"] == "validation" or event["body"]["steps"] == 2048 for event in learned)
    assert len([e for e in learned if e["body"]["role"] == "train"]) == 0
    assert leftovers(tmp_path / "run") == []


def test_a_node_that_raises_shows_its_last_words(tmp_path: Path) -> None:
    agent = """agent:
  class: own_module:Broken
"""
    module = """
from optix_bus.interfaces import BaseAgent
from optix_bus.types import HyperparamSet


class Broken(BaseAgent):
    def act(self, observation): return 0
    def learn(self, episode_data): raise KeyError("reward_scale")
    def get_hyperparams(self): return HyperparamSet({})
    def set_hyperparams(self, hyperparams): pass
    def save_weights(self, path): open(path, "w").close()
    def load_weights(self, path): pass
"""
    done = up(write_topology(tmp_path, module, "CartPole-v1", agent), tmp_path / "run")
    assert done.code == 3
    assert "KeyError: 'reward_scale'" in done.last_line
    assert "'learner'" in done.last_line
    assert "Traceback" in (tmp_path / "run" / "logs" / "agent.log").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "agent.hyperparameters.learnin_rate=1"), "learning_rate"),
        (("--set", "nodes.pipeline.windw_steps=5"), "window_steps"),
        (("--set", "environment.id=CartPol-v1"), "CartPole-v1"),
        (("--set", "agent.algorithm=sac"), "sac does not fit CartPole-v1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = up(TOPOLOGIES / "cartpole_ppo.yaml", tmp_path / "run", *options)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_a_run_directory_is_used_once(tmp_path: Path) -> None:
    first = up(TOPOLOGIES / "custom_agent.yaml", tmp_path / "run", *SHORT, "--quiet")
    assert first.code == 0
    second = up(TOPOLOGIES / "custom_agent.yaml", tmp_path / "run", *SHORT)
    assert second.code == 2
    assert "already holds a run" in second.err
    shutil.rmtree(tmp_path / "run")
