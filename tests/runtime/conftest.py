"""Runs that several tests look at; each is recorded once, and copied by who changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from optix_bus.runtime.replay_run import RecordedRun
from tests.runtime.recorded import TOPOLOGIES, record, with_validation

_EIGHT_WINDOWS = ("nodes.scheduler.max_episodes=8", "nodes.pipeline.window_steps=16")


def _repeating(folder: Path) -> RecordedRun:
    options = with_validation("agent.hidden_sizes=[8]", *_EIGHT_WINDOWS)
    return record(folder, TOPOLOGIES / "cartpole_ppo.yaml", *options)


@pytest.fixture(scope="session")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run of the demo that has ended: eight windows, cuts after the second, fourth and sixth."""
    return _repeating(tmp_path_factory.mktemp("repeating") / "run")


@pytest.fixture
def repeated(tmp_path: Path) -> RecordedRun:
    """The same once more, in another folder and at another time."""
    return _repeating(tmp_path / "repeated")


@pytest.fixture(scope="session")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """The same with an agent of six methods, which cannot do again what it did."""
    options = with_validation(*_EIGHT_WINDOWS)
    return record(tmp_path_factory.mktemp("forgetful") / "run", TOPOLOGIES / "custom_agent.yaml", *options)
