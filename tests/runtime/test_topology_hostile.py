"""Whatever a file holds: a topology, or problems with their places. Never another exception."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.runtime.problems import TopologyError
from optix_bus.runtime.topology import Topology
from tests.runtime.topologies import RIGHT, read

LINES = RIGHT.splitlines(keepends=True)
VALUES = [
    "",
    "3",
    "-1",
    "1e400",
    "yes",
    "[1, 2]",
    "{a: {b: c}}",
    "null",
    "'",
    '"x"',
    "&a [*a]",
    "*a",
    "!!int x",
    "- 1",
]
PIECES = st.sampled_from(
    [*VALUES, ":", "\t", "  ", "node:", "nodes.pipeline:PipelineNode", "{", "}", "<<: 3", "\x00"]
)


def outcome(text, *overrides):
    found = attempt(text, *overrides)
    if isinstance(found, Topology):
        assert read(found.dump()).digest == found.digest
        return
    assert found.problems
    for problem in found.problems:
        assert problem.message
        assert problem.render()
        assert problem.line == 0 or problem.line <= len(text.splitlines()) + 1


def attempt(text, *overrides):
    try:
        return read(text, *overrides)
    except TopologyError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(LINES) - 1), st.integers(0, 40), st.integers(0, 8), PIECES)
def test_a_file_spoilt_at_one_place_is_a_topology_or_has_problems(line, start, width, piece):
    lines = list(LINES)
    lines[line] = lines[line][:start] + piece + lines[line][start + width :]
    outcome("".join(lines))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(LINES) - 1), min_size=1, max_size=4, unique=True))
def test_a_file_that_lacks_lines_is_a_topology_or_has_problems(gone):
    outcome("".join(line for number, line in enumerate(LINES) if number not in gone))


_WORDS = st.sampled_from(
    ["nodes", "collector", "agent", "hidden_sizes", "0", "run", "seed", "kwargs", "environment", "x"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=4), st.sampled_from(VALUES))
def test_any_override_is_a_topology_or_has_problems(path, value):
    outcome(RIGHT, f"{'.'.join(path)}={value}")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_topology_or_has_problems(text):
    outcome(text)
