"""Folders of runs as a supervisor leaves them, without one having run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym

from optix_bus import CheckpointRegistry, EvalMetrics, HyperparamSet, make_agent
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory, RunRecord, creation_time

#: No process has it: the kernel's numbers end below.
NO_PID = 2**22 + 1


def this_process(name: str, nodes: tuple[str, ...] = (), **more: Any) -> ProcessRecord:
    """The test itself in the part of a process that runs."""
    return ProcessRecord(name, os.getpid(), creation_time(os.getpid()), "ready", nodes=list(nodes), **more)


def gone(name: str, nodes: tuple[str, ...] = (), state: str = "ready") -> ProcessRecord:
    """A process that has died."""
    return ProcessRecord(name, NO_PID, 1.0, state, nodes=list(nodes))


def write_run(
    root: Path, supervisor: ProcessRecord, *processes: ProcessRecord, state: str = "running", **more: Any
) -> RunDirectory:
    """A run directory with its record."""
    run = RunDirectory.create(root)
    record: dict[str, Any] = {
        "seed": 7,
        "sockets": "",
        "shared_memory": "",
        "topology": "topology.yaml",
        **more,
    }
    run.write(RunRecord(root.name, "tiny", state, supervisor, processes=list(processes), **record))
    return run


def write_plan(run: RunDirectory, environment: str = "CartPole-v1", **checkpoint_settings: Any) -> None:
    """The plan of a run of PPO that keeps checkpoints."""
    agent = {
        "framework": "torch",
        "algorithm": "ppo",
        "hidden_sizes": [8],
        "hyperparameters": {},
        "device": "cpu",
    }
    plan = RunPlan(
        run_id=run.root.name,
        name="tiny",
        seed=7,
        digest="0" * 64,
        run_directory=str(run.root),
        environment={"id": environment, "kwargs": {}},
        agent=agent,
        run={},
        nodes=[
            NodePlan(
                name="checkpoint",
                class_path="nodes.checkpoint:CheckpointNode",
                settings=checkpoint_settings,
                role="",
                process="checkpoint",
            )
        ],
        shares_agent=False,
        has_validation=True,
        has_optimizer=False,
        lookahead=0,
        search_path=[],
    )
    plan.write(run.root / "plan.json")


def save_snapshots(folder: Path, *scores: float, run_id: str = "tiny-run") -> list[str]:
    """One snapshot for each score, of agents with other weights; returns their ids."""
    registry = CheckpointRegistry(folder, run_id=run_id)
    environment = gym.make("CartPole-v1")
    return [
        registry.save(
            make_agent(environment, hidden_sizes=(8,), device="cpu", seed=number),
            EvalMetrics(score, {"n": 20.0, "standard_error": 1.5}, episode_id=10 * number),
            HyperparamSet({"learning_rate": 3e-4}),
            policy_version=number,
        ).snapshot_id
        for number, score in enumerate(scores, start=1)
    ]
