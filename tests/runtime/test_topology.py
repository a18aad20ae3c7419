from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.topology import TopologyError, load_topology
from tests.runtime.fake_nodes import CollectorSettings, DriverSettings
from tests.runtime.topologies import RIGHT, only_problem, problems, read


def test_a_right_topology_becomes_checked_settings():
    topology = read()
    assert (topology.version, topology.name, topology.seed) == (1, "small-loop", 7)
    assert topology.environment.id == "CartPole-v1"
    assert topology.agent.algorithm == "ppo"
    assert topology.agent.hidden_sizes == (32, 32)
    assert topology.agent.hyperparameters == {"learning_rate": 3e-4}
    assert [entry.name for entry in topology.nodes] == ["collector", "learner", "driver"]
    assert topology.node("collector").settings == CollectorSettings(window_steps=128)
    assert topology.node("collector").role == "train"
    assert topology.node("driver").settings == DriverSettings(windows=50)
    assert topology.run.start_seconds == 30.0
    assert topology.run.idle_seconds > 0


def test_a_topology_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().seed = 3


def test_an_unknown_node_name_is_a_key_error():
    with pytest.raises(KeyError):
        read().node("nobody")


# One row a mistake: what is replaced, by what; line and column; what the message and the suggestion say.
MISTAKES = [
    ("topology: 1 ", "topology: 2 ", 2, 11, "format version 2 is unknown", "write topology: 1"),
    ("topology: 1 ", "topology: one ", 2, 11, "expected a whole number, found the text 'one'", ""),
    ("topology: 1 ", "toplogy: 1 ", 2, 1, "unknown option 'toplogy'", "did you mean 'topology'?"),
    ("seed: 7", "seed: -7", 4, 7, "expected at least 0, found -7", ""),
    ("seed: 7", "sed: 7", 4, 1, "unknown option 'sed' of the topology", "did you mean 'seed'?"),
    ("name: small-loop", "name: a/b", 3, 7, "'a/b' cannot name a run", "letters, digits"),
    ("  id: CartPole-v1", "  ID: CartPole-v1", 6, 3, "unknown option 'ID' of the environment", "'id'"),
    ("algorithm: ppo", "algorithm: poo", 8, 14, "unknown algorithm 'poo'", "did you mean 'ppo'?"),
    ("algorithm: ppo", "framework: torch", 8, 3, "either 'algorithm' or 'class', found neither", "ppo"),
    ("[32, 32]", "[32, 0]", 9, 22, "item 2 of 'hidden_sizes'", ""),
    ("[32, 32]", "32", 9, 17, "a list of whole numbers or nothing, found the number 32", "write [32]"),
    ("{learning_rate: 3e-4}", "{learnin_rate: 3e-4}", 10, 21, "'learnin_rate' of ppo", "'learning_rate'"),
    ("{learning_rate: 3e-4}", "{learning_rate: 0}", 10, 36, "more than 0.0, found 0", ""),
    ("{learning_rate: 3e-4}", "{learning_rate: '3e-4'}", 10, 36, "expected a number", "remove the quotes"),
    ("fake_nodes:Collector", "fake_nodes:Colector", 13, 11, "no 'Colector'", "did you mean 'Collector'?"),
    ("tests.runtime.fake_nodes:Collector", "nodes.pipelin:X", 13, 11, "no module", "'nodes.pipeline'"),
    ("fake_nodes:Collector", "fake_nodes:NoNode", 13, 11, "is no node", "optix_bus.runtime.node.Node"),
    ("fake_nodes:Collector", "fake_nodes", 13, 11, "expected module:Name", "nodes.learner:LearnerNode"),
    ("    role: train\n", "    role: trian\n", 14, 11, "expected one of 'train', 'validation'", "'train'?"),
    ("    role: train\n", "", 13, 5, "node 'collector' lacks a role", "train, validation"),
    ("    role: train\n", "    rol: train\n", 13, 5, "lacks a role", ""),
    ("window_steps: 128 ", "windw_steps: 128 ", 15, 5, "'windw_steps' of node 'collector'", "'window_steps'"),
    ("window_steps: 128 ", "window_steps: yes ", 15, 19, "a whole number, found the text 'yes'", ""),
    ("window_steps: 128 ", "window_steps: 1e2 ", 15, 19, "found the number 100.0", "write 100"),
    ("window_steps: 128 ", "window_steps: 0 ", 15, 19, "at least 1 transitions, found 0", ""),
    ("window_steps: 128 ", "episodes: 5 ", 15, 5, "no effect in the role 'train'", "remove it"),
    ("    windows: 50\n", "", 18, 5, "lacks the required option 'windows'", "how many windows"),
    ("windows: 50", "windows: 2", 18, 5, "patience 5 is more than windows 2", ""),
    ("  learner: {", "  learner: {role: train, ", 16, 13, "Learner has no roles", "remove it"),
    ("  learner: {", "  hub: {", 16, 3, "'hub' cannot be the name of a node", "letters"),
    ("  learner: {node: tests.runtime.fake_nodes:Learner}", "  learner: 3", 16, 12, "found the number 3", ""),
    ("  start_seconds: 30", "  start_second: 30", 21, 3, "unknown option 'start_second'", "'start_seconds'"),
    ("  start_seconds: 30", "  start_seconds: 0", 21, 18, "more than 0 seconds, found 0", ""),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "message", "suggestion"), MISTAKES)
def test_a_mistake_has_its_place_and_its_cure(old, new, line, column, message, suggestion):
    found = problems(RIGHT.replace(old, new, 1))
    matching = [p for p in found if (p.line, p.column) == (line, column) and message in p.message]
    assert matching, [problem.headline for problem in found]
    assert suggestion in f"{matching[0].message}; {matching[0].suggestion}"


def test_ten_mistakes_are_all_named_at_once_and_in_the_order_of_the_file():
    text = RIGHT
    for old, new in (
        ("seed: 7", "seed: seven"),
        ("algorithm: ppo", "algorithm: poo"),
        ("[32, 32]", "[32, x]"),
        ("role: train", "role: trian"),
        ("window_steps: 128 ", "windw_steps: 128 "),
        ("fake_nodes:Learner", "fake_nodes:Lerner"),
        ("    windows: 50", "    windows: 0"),
        ("  start_seconds: 30", "  start_seconds: -1\n  idle: 3"),
        ("name: small-loop", "name: small-loop\nname: twice"),
    ):
        text = text.replace(old, new, 1)
    found = problems(text)
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    assert len(found) == 10
    assert len({problem.message for problem in found}) == 10


def test_a_problem_is_drawn_with_its_line_and_a_caret():
    found = only_problem("window_steps: 128 ", "windw_steps: 128 ")
    assert found.render() == (
        "topology.yaml:15:5: unknown option 'windw_steps' of node 'collector'; did you mean 'window_steps'?\n"
        "        windw_steps: 128       # short\n"
        "        ^^^^^^^^^^^"
    )


def test_all_problems_are_one_configuration_error():
    with pytest.raises(ConfigurationError) as caught:
        read(RIGHT.replace("seed: 7", "sed: 7"))
    assert caught.value.exit_code == 2
    assert "topology.yaml:4:1" in str(caught.value)


def test_missing_sections_are_named():
    found = problems("topology: 1\nagent: {algorithm: ppo}\n")
    assert [p.path for p in found] == ["environment", "nodes"]


def test_a_file_that_is_no_mapping_is_one_problem():
    (found,) = problems("- 1\n- 2\n")
    assert "the topology takes a mapping" in found.message


def test_the_name_of_the_file_names_a_nameless_topology():
    assert read(RIGHT.replace("name: small-loop\n", "")).name == "topology"


def test_a_missing_file_says_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text(RIGHT)
    with pytest.raises(TopologyError, match=r"cannot read this file .*other\.yaml"):
        load_topology("topology.yaml")


def test_modules_beside_the_topology_can_be_named(tmp_path):
    (tmp_path / "beside_it.py").write_text("from tests.runtime.fake_nodes import Learner as MyLearner\n")
    (tmp_path / "topology.yaml").write_text(
        RIGHT.replace("tests.runtime.fake_nodes:Learner", "beside_it:MyLearner")
    )
    topology = load_topology(tmp_path / "topology.yaml", build_environment=False)
    assert topology.node("learner").node_class().__name__ == "Learner"
    assert str(tmp_path.resolve()) in topology.search_path


def test_a_module_that_fails_to_import_is_a_problem_with_its_reason(tmp_path):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no luck')\n")
    (tmp_path / "needy_module.py").write_text("import a_package_that_is_not_there\n")
    text = RIGHT.replace("tests.runtime.fake_nodes:Learner", "broken_module:A")
    text = text.replace("tests.runtime.fake_nodes:Driver", "needy_module:B")
    (tmp_path / "topology.yaml").write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_topology(tmp_path / "topology.yaml", build_environment=False)
    first, second = caught.value.problems
    assert "RuntimeError: no luck" in first.message
    assert "needs 'a_package_that_is_not_there'" in second.message


def test_a_node_without_options_of_its_own_may_be_left_empty_and_gets_none():
    topology = read()
    assert topology.resolved()["nodes"]["learner"] == {
        "node": "tests.runtime.fake_nodes:Learner",
        "process": "learner",
        "restart": "transient",
    }


def test_nodes_live_alone_unless_they_name_a_process():
    text = RIGHT.replace("    windows: 50", "    windows: 50\n    process: brain")
    text = text.replace("Learner}", "Learner, process: brain}")
    processes = read(text).processes
    assert {name: [e.name for e in entries] for name, entries in processes.items()} == {
        "collector": ["collector"],
        "brain": ["learner", "driver"],
    }


def test_an_odd_process_name_is_refused():
    found = only_problem("Learner}", "Learner, process: 'a b'}")
    assert (found.line, found.path) == (16, "nodes.learner.process")


def test_dump_keeps_comments_and_writes_out_defaults_and_overrides():
    text = read(RIGHT, "nodes.collector.window_steps=64", "run.idle_seconds=3").dump()
    assert "# a loop of three" in text
    assert "# short" in text
    assert "window_steps: 64" in text
    assert "environments: 8" in text
    assert "idle_seconds: 3" in text
    assert "max_handle_seconds:" in text


def test_a_dumped_topology_is_the_same_topology():
    original = read(RIGHT, "nodes.collector.sizes=[8, 8]", "agent.hyperparameters.gamma=0.9")
    again = read(original.dump())
    assert again.digest == original.digest
    assert again.resolved() == original.resolved()
    assert again.node("collector").settings == original.node("collector").settings
    assert read(again.dump()).dump() == again.dump()


def test_the_digest_speaks_of_content_not_of_form():
    spaced = RIGHT.replace("seed: 7", "# a comment\nseed:    7").replace("3e-4", "0.0003")
    spelled_out = RIGHT.replace("    windows: 50", "    windows: 50\n    patience: 5")
    assert read(spaced).digest == read(spelled_out).digest == read().digest
    assert read(RIGHT.replace("seed: 7", "seed: 8")).digest != read().digest
    assert read(RIGHT, "nodes.collector.window_steps=129").digest != read().digest
    json.dumps(read().resolved())


def test_loading_without_the_environment_imports_no_framework_and_no_environment_library(tmp_path):
    path = tmp_path / "topology.yaml"
    path.write_text(RIGHT)
    code = (
        "import sys\n"
        "from optix_bus.runtime.topology import load_topology\n"
        f"load_topology({str(path)!r}, build_environment=False)\n"
        "print([m for m in ('torch', 'gymnasium', 'zmq', 'scipy', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
