from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.problems import Source
from optix_bus.runtime.topology_source import parse
from optix_bus.runtime.validation import as_options, validate
from optix_bus.settings import setting

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    name: str = setting(description="Its name.")
    depth: int = setting(1, "How deep.", minimum=1)


@dataclass(frozen=True)
class Everything:
    count: int = setting(3, minimum=1, maximum=9, unit="pieces")
    rate: float = setting(0.5, above=0, below=1)
    flag: bool = setting(False)
    name: str = setting("x")
    one_of: str = setting("a", choices=("a", "b"))
    sizes: tuple[int, ...] = setting((1,), minimum=1)
    pair: tuple[float, str] = setting((0.0, ""))
    names: list[str] = setting(factory=list)
    rates: dict[str, float] = setting(factory=dict, maximum=1.0)
    bounds: Mapping[str, tuple[float, float]] = setting(factory=dict)
    mode: Literal["fast", "slow", 3] = setting("fast")
    limit: int | None = setting(None, minimum=1)
    old_style: Optional[float] = setting(None)  # noqa: UP045
    either: int | str = setting(0)
    many: int | list[int] = setting(0, minimum=0)
    inner: Inner | None = setting(None)
    colour: Colour = setting(Colour.RED)
    folder: Path = setting(Path())
    anything: Any = setting(None)
    items: Sequence[int] = setting(())
    class_: str = setting("")


def check(text, cls=Everything):
    tree, problems = parse(Source("t.yaml", text))
    assert tree is not None
    assert not problems
    return validate(cls, tree, "the thing", "thing")


def value_of(text, name):
    made, problems = check(text)
    assert not problems, [problem.headline for problem in problems]
    return getattr(made, name)


def problem_of(text):
    made, problems = check(text)
    assert made is None
    assert len(problems) == 1, [problem.headline for problem in problems]
    return problems[0]


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("rate: 1e-4", "rate", 1e-4),
        ("old_style: 3", "old_style", 3.0),
        ("limit: null", "limit", None),
        ("limit: 4", "limit", 4),
        ("sizes: [64, 64]", "sizes", (64, 64)),
        ("sizes: []", "sizes", ()),
        ("pair: [1, a]", "pair", (1.0, "a")),
        ("names: [a, b]", "names", ["a", "b"]),
        ("rates: {a: 1, b: 0.5}", "rates", {"a": 1.0, "b": 0.5}),
        ("rates:", "rates", {}),
        ("bounds: {lr: [1e-5, 1e-3]}", "bounds", {"lr": (1e-5, 1e-3)}),
        ("mode: 3", "mode", 3),
        ("either: 4", "either", 4),
        ("either: four", "either", "four"),
        ("many: [1, 2]", "many", [1, 2]),
        ("inner: {name: n}", "inner", Inner("n", 1)),
        ("colour: blue", "colour", Colour.BLUE),
        ("folder: a/b", "folder", Path("a/b")),
        ("anything: {a: [1, {b: null}]}", "anything", {"a": [1, {"b": None}]}),
        ("class: a:B", "class_", "a:B"),
        ("flag: true", "flag", True),
    ],
)
def test_a_right_value_arrives_in_its_declared_type(text, name, value):
    found = value_of(text, name)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "column", "said", "suggestion"),
    [
        ("count: true", 8, "expected a whole number, found true", ""),
        ("count: 2.5", 8, "expected a whole number, found the number 2.5", ""),
        ("count: 3.0", 8, "expected a whole number", "write 3"),
        ('count: "3"', 8, "found the text '3'", "remove the quotes"),
        ("count: 0", 8, "expected at least 1 pieces, found 0", ""),
        ("count: 10", 8, "expected at most 9 pieces, found 10", ""),
        ("count: [1]", 8, "found a list", ""),
        ("count:", 7, "found nothing", ""),
        ("rate: 0", 7, "expected more than 0, found 0", ""),
        ("rate: 1", 7, "expected less than 1, found 1", ""),
        ("rate: .nan", 7, "expected a number, found nan", ""),
        ("rate: .inf", 7, "expected less than 1, found inf", ""),
        ("rate: '1e-4'", 7, "expected a number", "remove the quotes"),
        ("rate: false", 7, "expected a number, found false", ""),
        ("flag: yes", 7, "expected true or false, found the text 'yes'", "write true"),
        ("flag: Off", 7, "expected true or false", "write false"),
        ("flag: 'true'", 7, "expected true or false", "remove the quotes"),
        ("flag: 1", 7, "found the number 1", ""),
        ("name: 3", 7, "expected a text, found the number 3", 'write "3"'),
        ("one_of: c", 9, "expected one of 'a', 'b', found the text 'c'", ""),
        ("sizes: 64", 8, "expected a list of whole numbers", "write [64]"),
        ("sizes: [64, 0]", 13, "item 2 of 'sizes' of the thing: expected at least 1", ""),
        ("pair: [1]", 7, "expected 2 values, found 1", ""),
        ("names: [a, 2]", 12, "item 2 of 'names'", 'write "2"'),
        ("rates: {a: 2}", 12, "'a' in 'rates' of the thing: expected at most 1.0", ""),
        ("rates: [1]", 8, "expected a mapping, found a list", ""),
        ("bounds: {lr: [1]}", 14, "expected 2 values", ""),
        ("mode: slwo", 7, "expected one of 'fast', 'slow', 3", "did you mean 'slow'?"),
        ("limit: 0", 8, "expected at least 1, found 0", ""),
        ("limit: x", 8, "expected a whole number or nothing, found the text 'x'", ""),
        ("either: [1]", 9, "expected a whole number or a text, found a list", ""),
        ("many: [1, -1]", 11, "item 2 of 'many'", ""),
        ("inner: {depth: 0, name: n}", 16, "'depth' of 'inner' of the thing", ""),
        ("inner: {depth: 2}", 8, "lacks the required option 'name'", "its name"),
        ("inner: {dept: 2, name: n}", 9, "unknown option 'dept'", "did you mean 'depth'?"),
        ("colour: bleu", 9, "expected one of 'red', 'blue'", "did you mean 'blue'?"),
        ("cuont: 3", 1, "unknown option 'cuont' of the thing", "did you mean 'count'?"),
        ("class_: x", 1, "unknown option 'class_'", "did you mean 'class'?"),
    ],
)
def test_a_wrong_value_is_found_expected_and_cured(text, column, said, suggestion):
    found = problem_of(text)
    assert (found.line, found.column) == (1, column)
    assert said in found.message
    assert suggestion in found.suggestion


def test_every_mistake_is_found_and_right_siblings_do_not_hide_it():
    made, problems = check("count: 0\nrate: 2\nflag: true\nnmae: x\nsizes: [0, 1, 0]\ninner: {depth: 0}\n")
    assert made is None
    assert [problem.line for problem in problems] == [1, 2, 4, 5, 5, 6, 6]
    assert problems[3].path == "thing.sizes.0"


def test_a_word_far_from_all_options_gets_their_list():
    assert "known options: anything, bounds" in problem_of("qqqq: 1").suggestion


def test_a_class_without_options_says_so():
    class Nothing:
        pass

    made, problems = check("{}", Nothing)
    assert isinstance(made, Nothing)
    assert not problems
    assert "it has no options" in check("a: 1", Nothing)[1][0].suggestion


def test_a_mapping_is_asked_for_where_something_else_stands():
    assert "takes a mapping of options, found a list" in problem_of("[1]").message


def test_what_a_class_refuses_itself_is_a_problem_at_its_place():
    @dataclass(frozen=True)
    class Picky:
        low: int = setting(0)
        high: int = setting(1)

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    made, (problem,) = check("low: 2", Picky)
    assert made is None
    assert "low is above high" in problem.message


def test_a_settings_class_whose_types_exist_only_for_the_type_checker_is_named():
    @dataclass
    class Hidden:
        price: Decimal = setting(None)

    with pytest.raises(ConfigurationError, match="Hidden use a type that is not imported at run time"):
        check("price: 1", Hidden)


def test_options_written_back_are_read_as_the_same_settings():
    made, _ = check(
        "sizes: [2, 3]\ncolour: blue\ninner: {name: n}\nbounds: {lr: [0, 1]}\nclass: c\nfolder: f\n"
    )
    plain = as_options(made)
    assert plain["sizes"] == [2, 3]
    assert plain["colour"] == "blue"
    assert plain["class"] == "c"
    assert plain["inner"] == {"depth": 1, "name": "n"}
    assert plain["folder"] == "f"
    assert math.isclose(plain["rate"], 0.5)
