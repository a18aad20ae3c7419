"""From a topology to a search, to the topologies of its trials, and to one with the best settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.problems import TopologyError
from optix_bus.runtime.topology import load_topology
from optix_bus.trials.tune_plan import TunePlan

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
PPO = TOPOLOGIES / "cartpole_ppo.yaml"


def plan(path=PPO, *overrides, **given):
    return TunePlan.of(load_topology(path, overrides, build_environment=False), **given)


def laid_out(folder, path, *overrides, **given):
    topology = load_topology(path, overrides, build_environment=False)
    made = TunePlan.of(topology, **given)
    (folder / "topology.yaml").write_text(topology.rewrite())
    made.write(folder)
    return made


def test_without_a_space_the_bounds_of_the_algorithm_are_searched():
    assert plan().space == {
        "agent.hyperparameters.learning_rate": ["log_float", 1e-4, 3e-3],
        "agent.hyperparameters.gamma": ["float", 0.95, 0.999],
        "agent.hyperparameters.clip_ratio": ["float", 0.1, 0.3],
        "agent.hyperparameters.entropy_coef": ["float", 0.001, 0.05],
    }


def test_what_follows_a_schedule_is_left_to_it():
    way = "{schedule: linear, from: 3e-4, to: 0, over: 9000, clock: environment_steps}"
    made = plan(PPO, f"agent.hyperparameters.learning_rate={way}")
    assert "agent.hyperparameters.learning_rate" not in made.space
    assert len(made.space) == 3


def test_the_topology_says_what_is_tried_and_the_command_line_knows_better():
    space = "{gamma: [float, 0.9, 0.99], nodes.pipeline.window_steps: [categorical, 64, 128]}"
    section = f"tune={{trials: 7, steps: 900, space: {space}}}"
    made = plan(PPO, section)
    assert made.space == {
        "agent.hyperparameters.gamma": ["float", 0.9, 0.99],
        "nodes.pipeline.window_steps": ["categorical", 64, 128],
    }
    assert (made.trials, made.steps, made.workers) == (7, 900, 1)
    made = plan(PPO, section, trials=3, space={"gamma": ["float", 0.5, 0.6]})
    assert (made.trials, made.steps) == (3, 900)
    assert list(made.space) == ["agent.hyperparameters.gamma"]


def test_a_section_changes_nothing_for_up():
    with_section = load_topology(PPO, ["tune={trials: 7}"], build_environment=False)
    assert with_section.digest == load_topology(PPO, build_environment=False).digest


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"learnin_rate": ["float", 0.1, 0.2]}, "did you mean 'learning_rate'"),
        ({"gamma": ["float", 0.5, 1.5]}, "expected at most 1.0, found 1.5"),
        ({"nodes.pipline.window_steps": ["int", 8, 16]}, "no node is called 'pipline'"),
        ({"nodes.pipeline.window_steps": ["categorical", 64, 0]}, "window_steps"),
        ({"agent.hidden_sizes": ["categorical", [64], ["a"]]}, "hidden_sizes"),
    ],
)
def test_every_end_of_the_space_is_tried_on_the_topology_first(space, says):
    with pytest.raises(TopologyError) as refused:
        plan(space=space)
    assert says in "; ".join(f"{p.message} {p.suggestion}" for p in refused.value.problems)


def test_a_mistake_in_the_section_has_its_place():
    with pytest.raises(TopologyError, match="trails"):
        load_topology(PPO, ["tune={trails: 7}"], build_environment=False)


def test_a_space_that_is_none_is_named():
    with pytest.raises(ConfigurationError, match="did you mean 'log_float'"):
        plan(space={"learning_rate": ["log_flaot", 1e-4, 1e-3]})
    with pytest.raises(ConfigurationError, match="there is nothing to search"):
        plan(TOPOLOGIES / "custom_agent.yaml")


def test_a_trial_is_short_leaves_little_and_is_not_tuned_inside(tmp_path):
    made = laid_out(tmp_path, PPO, "seed=40", steps=900)
    overrides = made.overrides(3, {"agent.hyperparameters.gamma": 0.9})
    trial = load_topology(tmp_path / "topology.yaml", overrides, build_environment=False)
    assert trial.seed == 43
    assert trial.agent.hyperparameters["gamma"] == 0.9
    assert trial.node("scheduler").settings.max_steps == 900
    assert trial.node("scheduler").settings.cut_windows == 0
    assert trial.node("optimizer").settings.method == "none"
    assert trial.run.record == "events"


def test_the_result_is_the_users_file_with_other_values_and_its_comments(tmp_path):
    made = laid_out(tmp_path, PPO, "nodes.pipeline.environments=2")
    params = {"agent.hyperparameters.learning_rate": 0.00123, "agent.hyperparameters.clip_ratio": 0.15}
    before, after = PPO.read_text().splitlines(), made.result(tmp_path, params).splitlines()
    (tmp_path / "best.yaml").write_text("\n".join(after))
    best = load_topology(tmp_path / "best.yaml", build_environment=False)
    assert best.agent.hyperparameters["learning_rate"] == 0.00123
    assert best.agent.hyperparameters["clip_ratio"] == 0.15
    assert best.node("pipeline").settings.environments == 2
    assert best.node("optimizer").settings.method != "none"
    changed = {line.split(":")[0].strip() for line in set(after) - set(before)}
    assert changed == {"learning_rate", "clip_ratio", "environments"}
    assert [line for line in before if "#" in line] == [line for line in after if "#" in line]


def test_an_agent_of_ones_own_is_found_from_the_folder_of_the_search(tmp_path):
    space = {"agent.arguments.learning_rate": ["log_float", 1e-4, 1e-1]}
    made = laid_out(tmp_path, TOPOLOGIES / "custom_agent.yaml", space=space)
    text = made.result(tmp_path, {"agent.arguments.learning_rate": 0.02})
    (tmp_path / "best.yaml").write_text(text)
    best = load_topology(tmp_path / "best.yaml", build_environment=False)
    assert str(TOPOLOGIES) in best.search_path
    assert best.agent.arguments["learning_rate"] == 0.02


def test_a_plan_is_read_as_it_was_written(tmp_path):
    made = laid_out(tmp_path, PPO, space={"agent.hidden_sizes": ["categorical", [64], [32, 32]]})
    assert TunePlan.read(tmp_path) == made
    assert made.storage == ""
    assert Path(plan(storage="elsewhere.journal").storage).is_absolute()
    assert plan(storage="sqlite:///s.db").storage == "sqlite:///s.db"
    (tmp_path / "tune.json").write_text("{")
    with pytest.raises(ConfigurationError, match="is damaged"):
        TunePlan.read(tmp_path)
    with pytest.raises(ConfigurationError, match="holds no search"):
        TunePlan.read(tmp_path / "nowhere")
