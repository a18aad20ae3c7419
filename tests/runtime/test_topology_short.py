"""``optimizer: adaptive`` among the nodes stands for the optimizer node with this method."""

from __future__ import annotations

import jsonschema
import pytest
from ruamel.yaml import YAML

from optix_bus.runtime.problems import TopologyError
from optix_bus.runtime.topology import load_topology
from optix_bus.runtime.topology_schema import topology_schema
from tests.runtime.recorded import DEMO, TOPOLOGIES

ADAPTIVE = TOPOLOGIES / "cartpole_adaptive.yaml"


def load(*overrides: str, path=ADAPTIVE):
    return load_topology(path, overrides, build_environment=False)


@pytest.mark.parametrize("method", ["adaptive", "backoff", "momentum", "pbt", "spsa", "none"])
def test_the_name_of_a_method_is_all_that_is_written(method):
    found = load(f"nodes.optimizer={method}").node("optimizer")
    assert found.class_path == "nodes.optimizer:OptimizerNode"
    assert found.settings.method == method


def test_a_setting_below_it_can_be_given_as_well():
    assert load("nodes.optimizer.warmup_episodes=5").node("optimizer").settings.warmup_episodes == 5
    assert load("nodes.optimizer=momentum", path=DEMO).node("optimizer").settings.method == "momentum"


def test_the_resolved_topology_says_everything(tmp_path):
    whole = load("nodes.optimizer.warmup_episodes=5")
    written = tmp_path / "topology.yaml"
    written.write_text(whole.dump())
    again = load_topology(written, build_environment=False)
    assert again.resolved() == whole.resolved()
    assert "method: adaptive" in written.read_text()


def test_another_word_is_refused_with_what_was_meant():
    with pytest.raises(TopologyError) as caught:
        load("nodes.optimizer=adaptiv")
    (problem,) = caught.value.problems
    assert "did you mean 'adaptive'?" in str(problem)


def test_an_option_of_another_method_is_refused_where_it_stands():
    with pytest.raises(TopologyError) as caught:
        load("nodes.optimizer.gains=spall")
    assert "'gains' has no effect with method 'adaptive'" in str(caught.value)


def test_the_schema_knows_it():
    document = YAML(typ="safe").load(ADAPTIVE.read_text())
    schema = topology_schema()
    jsonschema.validate(document, schema)
    document["nodes"]["optimizer"] = "adaptiv"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
