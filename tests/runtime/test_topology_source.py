from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.runtime.topology_source import Source, parse, read_source


def tree_of(text):
    tree, problems = parse(Source("t.yaml", text))
    assert not problems, problems
    return tree


def problems_of(text):
    return parse(Source("t.yaml", text))[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("3.", 3.0),
        ("+3", 3),
        ("-0x1F", -31),
        ("0o17", 15),
        ("010", 10),
        ("1_000", 1000),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ('"1"', "1"),
        ("nodes.learner:LearnerNode", "nodes.learner:LearnerNode"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_reads_them(text, value):
    found = tree_of(f"a: {text}\n").plain()["a"]
    assert (type(found), found) == (type(value), value)


def test_nan_is_a_number():
    assert math.isnan(tree_of("a: .nan\n").plain()["a"])


def test_keys_and_values_know_their_line_and_column():
    tree = tree_of("a:\n  bee: [1, {c: x}]\n")
    entry = tree.entries["a"].value.entries["bee"]
    assert (entry.place.line, entry.place.column, entry.place.width) == (2, 3, 3)
    inner = entry.value.items[1].entries["c"]
    assert (inner.place.line, inner.place.column) == (2, 13)
    assert (inner.value.place.line, inner.value.place.column) == (2, 16)


def test_anchors_and_merges_work_and_own_keys_win():
    tree = tree_of("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nboth:\n  <<: [{z: 1}, {z: 2, w: 2}]\n")
    assert tree.plain()["use"] == {"x": 1, "y": 3}
    assert tree.plain()["both"] == {"z": 1, "w": 2}


def test_a_key_twice_is_a_problem_at_the_second_place():
    (problem,) = problems_of("a: 1\nb: 2\na: 3\n")
    assert (problem.line, problem.column) == (3, 1)
    assert "first in line 1" in problem.message


def test_every_tab_in_the_indentation_is_found():
    found = problems_of("a:\n\tb: 1\n\tc: 2\nd: 3\n")
    assert [(p.line, p.column) for p in found] == [(2, 1), (3, 1)]
    assert all("spaces" in p.suggestion for p in found)


def test_a_tab_inside_a_text_is_left_alone():
    assert tree_of("a: 1\nb: |\n  x\n  \ty\n").plain() == {"a": 1, "b": "x\n\ty\n"}
    (found,) = problems_of("b: |\n  x\n  \ty\na: [\n")
    assert "tab" not in found.message


def test_a_tab_before_a_value_has_its_place():
    (found,) = problems_of("b: 1\na:\t1\n")
    assert (found.line, found.column, found.suggestion) == (2, 3, "use spaces")


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a: [1, 2\nb: 3\n", 2, 2, "begins at line 1"),
        ("a: 'x\n", 2, 1, "quoted scalar"),
        ("a: 1\n b: 2\n", 2, 3, "where no key can stand"),
        ("a: *nobody\n", 1, 4, "nobody"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("a: 1\nb: x\x07\n", 2, 5, "not allowed"),
        ("a:\n  b: 1\n c: 2\n", 3, 2, "indentation"),
        ("<<: 3\n", 1, 5, "'<<' takes a mapping, found the number 3"),
        ("1: x\n", 1, 1, "a key must be text"),
        ("[a]: x\n", 1, 1, "a key must be text"),
        ("a: !!python/object:os.system x\n", 1, 4, "means nothing here"),
        ("a: !!int x\n", 1, 4, "is not of the kind"),
    ],
)
def test_a_mistake_of_the_syntax_has_its_place(text, line, column, said):
    found = problems_of(text)
    assert (found[0].line, found[0].column) == (line, column), found
    assert said in found[0].headline


def test_an_alias_of_itself_is_a_problem_and_no_endless_loop():
    assert any("alias of itself" in problem.message for problem in problems_of("a: &x [*x]\n"))


def test_an_empty_file_says_how_to_get_a_topology():
    assert "optix-bus init" in problems_of("# nothing\n")[0].suggestion


def test_a_byte_order_mark_does_not_move_the_columns(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    source, problems = read_source(path)
    assert not problems
    assert tree_of(source.text).entries["a"].place.column == 1


def test_bytes_that_are_no_utf8_have_a_place(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_bytes("a: 1\nname: Zü\n".encode("latin-1"))
    source, (problem,) = read_source(path)
    assert source is None
    assert (problem.line, problem.column) == (2, 8)


_TEXTS = st.text("ab: #'\"-é1\n\t\\", max_size=8)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
)
_KEYS = st.text("abc", min_size=1, max_size=4)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4))
def test_json_is_yaml_and_means_the_same(value):
    assert tree_of(json.dumps(value)).plain() == value
