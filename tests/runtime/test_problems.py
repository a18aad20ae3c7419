from __future__ import annotations

from optix_bus.runtime.problems import Place, Problem, Source, TopologyError, did_you_mean

SOURCE = Source("some.yaml", "a: 1\n  bc: two # why\n")


def test_a_problem_carries_its_line_and_underlines_the_found_word():
    problem = Problem.at(Place(SOURCE, 2, 7, 3), "found the text 'two'", "write 2", "a.bc")
    assert problem.render() == (
        "some.yaml:2:7: found the text 'two'; write 2\n      bc: two # why\n          ^^^"
    )


def test_a_caret_never_runs_past_the_line():
    drawn = Problem.at(Place(SOURCE, 1, 4, 99), "too wide").render().splitlines()
    assert len(drawn[2]) == len(drawn[1])


def test_a_tab_before_the_place_does_not_move_the_caret():
    drawn = Problem.at(Place(Source("t.yaml", "\tx: 1\n"), 1, 2), "here").render().splitlines()
    assert drawn[1].index("x") == drawn[2].index("^")


def test_a_problem_without_a_place_is_one_line():
    assert (
        Problem("gone.yaml", 0, 0, "cannot read", "write one").render() == "gone.yaml: cannot read; write one"
    )


def test_colour_is_only_there_when_asked_for():
    problem = Problem.at(Place(SOURCE, 1, 1), "wrong")
    assert "\x1b" not in problem.render()
    coloured = problem.render(colour=True)
    assert "\x1b[1m" in coloured
    for code in ("\x1b[1m", "\x1b[1;31m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == problem.render()


def test_a_problem_as_a_mapping_has_all_that_a_tool_needs():
    problem = Problem.at(Place(SOURCE, 2, 3), "m", "s", "a.b")
    assert problem.as_dict() == {
        "file": "some.yaml",
        "line": 2,
        "column": 3,
        "message": "m",
        "suggestion": "s",
        "path": "a.b",
    }


def test_an_error_keeps_all_problems_and_shows_them_all():
    both = [Problem.at(Place(SOURCE, line, 1), f"number {line}") for line in (1, 2)]
    error = TopologyError(both)
    assert error.problems == tuple(both)
    assert "number 1" in str(error)
    assert "number 2" in str(error)


def test_a_close_word_is_suggested_whatever_its_case():
    assert did_you_mean("Windw_Steps", ["window_steps", "role"]) == "did you mean 'window_steps'?"


def test_without_a_close_word_the_known_ones_are_listed():
    assert did_you_mean("xyz", ["role", "node"], "known options") == "known options: node, role"
    assert did_you_mean("xyz", ["role", "node"]) == ""
    assert did_you_mean("xyz", [], "known options") == ""
