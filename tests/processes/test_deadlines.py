"""The supervisor's deadlines, and timers, with nodes of the test's own in a topology."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.processes.runs import TOPOLOGIES, Finished, journal, leftovers, up

pytestmark = pytest.mark.processes

NODES = '''
import ctypes
import time

from optix_bus.messages import RunStarted, StopRequested, TimerFired
from optix_bus.runtime.node import Node, handles


class SlowStarter(Node):
    """Never becomes ready."""

    def __init__(self, settings): pass

    def setup(self):
        time.sleep(600)

    @handles(RunStarted)
    def on_start(self, event, ctx): pass


class Stuck(SlowStarter):
    """Handles one event for ever."""

    def setup(self): pass

    @handles(RunStarted)
    def on_start(self, event, ctx):
        time.sleep(600)


class Frozen(Stuck):
    """Holds the interpreter: not even its heartbeat can speak."""

    @handles(RunStarted)
    def on_start(self, event, ctx):
        ctypes.PyDLL(None).sleep(600)


class Alarm(Node):
    """Ends the run when its second timer rings."""

    emits = (StopRequested,)

    def __init__(self, settings):
        self.keys = []

    @handles(RunStarted)
    def on_start(self, event, ctx):
        ctx.timer("second", 0.4)
        ctx.timer("first", 0.1)

    @handles(TimerFired)
    def on_timer(self, event, ctx):
        self.keys.append(event.key)
        if event.key == "second":
            ctx.emit(StopRequested(reason=" then ".join(self.keys)))


class Weak(SlowStarter):
    """Cannot be set up."""

    def setup(self):
        raise OSError("no such exchange")
'''


def with_node(folder: Path, name: str, *options: str) -> Finished:
    """The demo with one more node."""
    (folder / "extra_nodes.py").write_text(NODES)
    text = (TOPOLOGIES / "cartpole_ppo.yaml").read_text()
    (folder / "topology.yaml").write_text(f"{text}\n  extra: {{node: 'extra_nodes:{name}'}}\n")
    return up(folder / "topology.yaml", folder / "run", *options)


def test_a_node_that_does_not_become_ready_is_named_after_its_deadline(tmp_path: Path) -> None:
    done = with_node(tmp_path, "SlowStarter", "--set", "run.start_seconds=6", "--set", "run.restarts=0")
    assert done.code == 3
    # On a busy machine others may be late as well, and named first.
    assert re.fullmatch(
        r"error: node '\w+' \(pid \d+\) died: took longer than 6 s to become ready \(run\.start_seconds\); "
        "see the log",
        done.last_line,
    )
    assert leftovers(tmp_path / "run") == []


def test_a_node_that_cannot_be_set_up_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    done = with_node(tmp_path, "Weak")
    assert done.code == 3
    assert "node 'extra'" in done.last_line
    assert done.last_line.endswith("OSError: no such exchange")
    assert leftovers(tmp_path / "run") == []


def test_a_handler_that_never_returns_is_found_by_its_own_deadline(tmp_path: Path) -> None:
    done = with_node(
        tmp_path, "Stuck", "--set", "run.max_handle_seconds=1.5", "--set", "run.stop_seconds=0.5"
    )
    assert done.code == 3
    assert "failed twice at event" in done.last_line
    assert "RunStarted in 'extra'" in done.last_line
    assert "run.max_handle_seconds" in done.last_line
    assert leftovers(tmp_path / "run") == []


def test_a_process_that_says_nothing_is_found_by_its_silence(tmp_path: Path) -> None:
    limits = ("--set", "run.idle_seconds=2", "--set", "run.stop_seconds=0.5", "--set", "run.restarts=0")
    done = with_node(tmp_path, "Frozen", *limits)
    assert done.code == 3
    assert "node 'extra'" in done.last_line
    assert "has been silent for more than 2 s (run.idle_seconds)" in done.last_line
    assert leftovers(tmp_path / "run") == []


def test_timers_come_back_as_events_in_processes_too(tmp_path: Path) -> None:
    done = with_node(tmp_path, "Alarm")
    assert done.code == 130
    events = journal(tmp_path / "run")
    fired = [e for e in events if e["type"] == "TimerFired"]
    assert [(e["node"], e["cause"], e["body"]["key"]) for e in fired] == [
        ("extra", 0, "first"),
        ("extra", 0, "second"),
    ]
    finished = [e for e in events if e["type"] == "RunFinished"]
    assert len(finished) == 1
    assert finished[0]["body"]["reason"] == "first then second"
