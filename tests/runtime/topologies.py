"""A right topology of fake nodes, and how tests spoil it."""

from __future__ import annotations

from pathlib import Path

from optix_bus.runtime.problems import Problem, Source
from optix_bus.runtime.topology import Topology, TopologyError, parse_topology

RIGHT = """\
# a loop of three
topology: 1                 # the format
name: small-loop
seed: 7
environment:
  id: CartPole-v1
agent:
  algorithm: ppo            # a card
  hidden_sizes: [32, 32]
  hyperparameters: {learning_rate: 3e-4}
nodes:
  collector:
    node: tests.runtime.fake_nodes:Collector
    role: train
    window_steps: 128       # short
  learner: {node: tests.runtime.fake_nodes:Learner}
  driver:
    node: tests.runtime.fake_nodes:Driver
    windows: 50
run:
  start_seconds: 30
"""

PATH = Path("topology.yaml")


def read(text: str = RIGHT, *overrides: str, build_environment: bool = False) -> Topology:
    """A topology from a text; environments are left alone unless the test is about them."""
    source = Source(str(PATH), text)
    return parse_topology(source, overrides, path=PATH, build_environment=build_environment)


def problems(text: str = RIGHT, *overrides: str, build_environment: bool = False) -> list[Problem]:
    """The problems of a text that must have some."""
    try:
        read(text, *overrides, build_environment=build_environment)
    except TopologyError as error:
        return list(error.problems)
    raise AssertionError("no problem was found")


def only_problem(old: str, new: str, build_environment: bool = False) -> Problem:
    """The one problem of the right topology with one place replaced."""
    assert RIGHT.count(old) == 1, f"{old!r} is not unique"
    found = problems(RIGHT.replace(old, new), build_environment=build_environment)
    assert len(found) == 1, [problem.headline for problem in found]
    return found[0]
