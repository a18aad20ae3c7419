from __future__ import annotations

import jsonschema
import pytest

from optix_bus.runtime.topology_schema import DIALECT, settings_schema, topology_schema
from optix_bus.runtime.topology_source import Source, parse
from tests.runtime.fake_nodes import CollectorSettings, DriverSettings
from tests.runtime.test_topology_agent import with_agent
from tests.runtime.test_validation import Everything
from tests.runtime.topologies import RIGHT

FAKES = [f"tests.runtime.fake_nodes:{name}" for name in ("Collector", "Learner", "Driver")]


@pytest.fixture(scope="module")
def validator():
    schema = topology_schema(FAKES)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def content(text):
    tree, problems = parse(Source("t.yaml", text))
    assert tree is not None
    assert not problems
    return tree.plain()


def test_the_schema_names_its_dialect():
    assert topology_schema()["$schema"] == DIALECT


def test_a_right_topology_satisfies_the_schema(validator):
    assert list(validator.iter_errors(content(RIGHT))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("topology: 1 ", "topology: 2 "),
        ("seed: 7", "seed: -7"),
        ("seed: 7", "sed: 7"),
        ("  id: CartPole-v1", "  idd: CartPole-v1"),
        ("algorithm: ppo", "algorithm: poo"),
        ("[32, 32]", "[32, 0]"),
        ("{learning_rate: 3e-4}", "{learnin_rate: 3e-4}"),
        ("{learning_rate: 3e-4}", "{learning_rate: 0}"),
        ("    role: train\n", "    role: trian\n"),
        ("    role: train\n", ""),
        ("window_steps: 128 ", "windw_steps: 128 "),
        ("window_steps: 128 ", "window_steps: yes "),
        ("    windows: 50\n", ""),
        ("  learner: {", "  learner: {role: train, "),
        ("  learner: {", "  lear/ner: {"),
        ("  start_seconds: 30", "  start_seconds: 0"),
    ],
)
def test_a_mistake_that_validate_finds_breaks_the_schema_too(validator, old, new):
    assert RIGHT.count(old) >= 1
    assert not validator.is_valid(content(RIGHT.replace(old, new, 1)))


def test_an_agent_of_ones_own_satisfies_the_schema_and_mixed_ones_do_not(validator):
    assert validator.is_valid(content(with_agent("  {class: a:B, arguments: {c: 1}}\n")))
    assert not validator.is_valid(content(with_agent("  {class: a:B, device: cpu}\n")))
    assert not validator.is_valid(content(with_agent("  {class: a:B, algorithm: ppo}\n")))
    assert not validator.is_valid(content(with_agent("  {algorithm: ppo, arguments: {}}\n")))


def test_a_node_class_that_the_schema_does_not_know_may_have_any_option(validator):
    assert validator.is_valid(
        content(RIGHT.replace("    windows: 50", "    windows: 50\n  more: {node: my:Node, x: 1}"))
    )


def test_descriptions_units_bounds_and_defaults_are_in_the_schema():
    properties = settings_schema(CollectorSettings)["properties"]
    assert properties["window_steps"] == {
        "type": "integer",
        "minimum": 1,
        "description": "Steps of each environment in a window (transitions).",
        "default": 256,
    }
    assert properties["noise"]["exclusiveMaximum"] == 1
    assert properties["mode"]["enum"] == ["sync", "async"]
    assert properties["sizes"]["items"] == {"type": "integer", "minimum": 1}
    assert properties["extras"]["default"] == {}
    assert settings_schema(DriverSettings)["required"] == ["windows"]


def test_every_type_that_the_validator_knows_has_a_schema():
    schema = settings_schema(Everything)
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = schema["properties"]
    assert properties["limit"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "null"}]
    assert properties["pair"]["maxItems"] == 2
    assert properties["colour"]["enum"] == ["red", "blue"]
    assert properties["colour"]["default"] == "red"
    assert properties["inner"]["anyOf"][0]["required"] == ["name"]
    assert properties["rates"]["additionalProperties"] == {"type": "number", "maximum": 1.0}
    assert "class" in properties
    assert {key for key, value in properties.items() if not value} == set()
    defaults = {key: value["default"] for key, value in properties.items() if "default" in value}
    jsonschema.validate(defaults, schema)
