from __future__ import annotations

import pytest

from tests.runtime.topologies import RIGHT, problems, read


@pytest.mark.parametrize(
    ("override", "look"),
    [
        ("nodes.collector.window_steps=512", lambda t: t.node("collector").settings.window_steps == 512),
        ("nodes.collector.sizes=[8, 16]", lambda t: t.node("collector").settings.sizes == (8, 16)),
        (
            "nodes.collector.extras={a: {b: 1}}",
            lambda t: t.node("collector").settings.extras == {"a": {"b": 1}},
        ),
        ("nodes.collector.limit=9", lambda t: t.node("collector").settings.limit == 9),
        ("agent.hidden_sizes.1=5", lambda t: t.agent.hidden_sizes == (32, 5)),
        ("agent.hyperparameters.gamma=0.9", lambda t: t.agent.hyperparameters["gamma"] == 0.9),
        (
            "agent.hyperparameters.learning_rate=1e-4",
            lambda t: t.agent.hyperparameters["learning_rate"] == 1e-4,
        ),
        ("environment.kwargs.gravity=3", lambda t: t.environment.kwargs == {"gravity": 3}),
        ("run={idle_seconds: 4}", lambda t: t.run.idle_seconds == 4.0),
        ("name=other", lambda t: t.name == "other"),
        (" seed = 5", lambda t: t.seed == 5),
        (
            "nodes.second={node: tests.runtime.fake_nodes:Collector, role: validation}",
            lambda t: len(t.nodes) == 4,
        ),
    ],
)
def test_an_override_changes_one_thing_and_survives_the_dump(override, look):
    topology = read(RIGHT, override)
    assert look(topology)
    assert topology.digest != read().digest
    assert read(topology.dump()).digest == topology.digest


def test_the_last_override_of_a_path_wins():
    assert read(RIGHT, "seed=1", "seed=2").seed == 2


def test_sections_that_the_file_leaves_empty_or_out_can_be_set():
    without = RIGHT.partition("run:")[0]
    assert read(without, "run.idle_seconds=4").run.idle_seconds == 4.0
    assert read(without + "run:\n", "run.idle_seconds=4").run.idle_seconds == 4.0
    assert "idle_seconds: 4" in read(without, "run.idle_seconds=4").dump()


@pytest.mark.parametrize(
    ("override", "column", "said", "suggestion"),
    [
        ("nodes.colector.window_steps=3", 7, "no node is called 'colector'", "did you mean 'collector'?"),
        ("nodes.colector=3", 7, "no node is called 'colector'", "did you mean 'collector'?"),
        ("nodes.collector.windw_steps=3", 17, "unknown option 'windw_steps'", "did you mean 'window_steps'?"),
        ("nodes.collector.window_steps=3.5", 30, "expected a whole number, found the number 3.5", ""),
        ("nodes.collector.sizes=[8, 0]", 27, "item 2 of 'sizes'", ""),
        ("agent.hidden_sizes.7=5", 20, "a list of 2 items, found '7'", "count items from 0"),
        ("seed.deeper=5", 6, "'seed' is the number 7, it has nothing called 'deeper'", ""),
        ("sed=5", 1, "unknown option 'sed'", "did you mean 'seed'?"),
        ("seed", 1, "no override", "nodes.pipeline.window_steps=512"),
        ("=5", 1, "no override", ""),
        ("a..b=5", 1, "no override", ""),
        ("seed=[1", 8, "flow sequence", ""),
        ("agent.hyperparameters.gama=0.9", 23, "unknown hyperparameter 'gama'", "did you mean 'gamma'?"),
    ],
)
def test_a_mistake_in_an_override_is_shown_in_the_argument(override, column, said, suggestion):
    (found,) = problems(RIGHT, override)
    assert (found.file, found.line, found.column) == ("--set", 1, column)
    assert said in found.message
    assert suggestion in found.suggestion
    assert found.render().splitlines()[1].strip() == override.strip()


def test_mistakes_of_several_overrides_come_in_their_order_after_those_of_the_file():
    found = problems(RIGHT.replace("seed: 7", "seed: x"), "nodes.collector.noise=9", "run.idle=1")
    assert [problem.path for problem in found] == ["seed", "nodes.collector.noise", "run.idle"]


def test_overrides_of_a_file_that_is_no_mapping_do_not_hide_its_problem():
    (found,) = problems("[1]\n", "seed=3")
    assert "takes a mapping" in found.message
