"""Heavy things are imported by those who need them; what is public is there; events are what they say."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import optix_bus
from optix_bus.messages import VOCABULARY, Event
from optix_bus.runtime.node import Node

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("torch", "tensorflow", "jax", "gymnasium")
NODES = sorted(path.stem for path in (ROOT / "nodes").glob("*.py") if path.stem != "__init__")
#: Names of other implementations for what has a plainer name here.
ALIASES = {
    "FlaxEvaluator": "ReturnEvaluator",
    "TFEvaluator": "ReturnEvaluator",
    "TFTD3Agent": "TFTDDAgent",
    "TorchEvaluator": "ReturnEvaluator",
}
LIGHT = ("scheduler", "evaluator", "variant_evaluator", "optimizer", "checkpoint", "callbacks")


def loaded_by(statement, modules):
    """Which of the modules are there after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*[name for name in {tuple(modules)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


def classes(name):
    """The node classes of one file."""
    module = importlib.import_module(f"nodes.{name}")
    return [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Node) and cls.__module__ == module.__name__
    ]


def test_importing_the_package_loads_nothing_heavy():
    heavy = (*FRAMEWORKS, "zmq", "numpy", "scipy", "msgspec", "psutil", "rich", "structlog", "click")
    assert loaded_by("import optix_bus", heavy) == []


def test_the_ground_and_the_vocabulary_load_no_framework_and_no_transport():
    modules = ", ".join(
        f"optix_bus.{name}" for name in ("types", "interfaces", "errors", "settings", "messages")
    )
    assert loaded_by(f"import {modules}", (*FRAMEWORKS, "zmq")) == []


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_node_imports_no_framework_and_no_environments(name):
    assert loaded_by(f"import nodes.{name}", (*FRAMEWORKS, "zmq")) == []


@pytest.mark.parametrize("name", ["learner", "pipeline"])
def test_a_node_that_learns_or_acts_gets_its_framework_from_its_agent(name):
    assert loaded_by(f"import nodes.{name}", ("torch", "tensorflow", "jax", "zmq")) == []


def test_asking_for_a_public_name_loads_only_what_it_needs():
    assert loaded_by("from optix_bus import compute_gae, BaseAgent", (*FRAMEWORKS, "zmq")) == []


@pytest.mark.parametrize("name", optix_bus.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    found = getattr(optix_bus, name)
    assert found.__name__ == ALIASES.get(name, name)
    assert (found.__doc__ or "").strip()


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'make_agnet'"):
        optix_bus.make_agnet  # noqa: B018
    assert dir(optix_bus) == optix_bus.__all__


@pytest.mark.parametrize("name", NODES)
def test_a_file_holds_one_node_and_is_called_after_it(name):
    (node,) = classes(name)
    assert node.__name__.removesuffix("Node").lower() == name.removesuffix("s").replace("_", "")
    assert (node.__doc__ or "").strip()


@pytest.mark.parametrize("name", NODES)
def test_a_node_speaks_the_vocabulary(name):
    (node,) = classes(name)
    assert set(node.emits) <= set(VOCABULARY)
    assert set(node.accepts()) <= set(VOCABULARY)
    assert set(node.optional) <= set(node.accepts())


def test_every_event_type_is_in_the_vocabulary_once():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert len({kind.__name__ for kind in VOCABULARY}) == len(VOCABULARY)
    of_the_house = {kind for kind in Event.__subclasses__() if kind.__module__.startswith("optix_bus.")}
    assert of_the_house == set(VOCABULARY)


@pytest.mark.parametrize("kind", VOCABULARY, ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_and_says_who_sends_it(kind):
    assert kind.__struct_config__.frozen
    assert kind.__doc__ != Event.__doc__
    assert len(kind.__doc__.strip()) > 20


def test_a_contract_is_found_where_users_look_for_it():
    from optix_bus import testing

    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
        assert getattr(testing, name) is getattr(optix_bus, name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        testing.Nothing  # noqa: B018
