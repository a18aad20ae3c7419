from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.topology import load_topology
from optix_bus.runtime.topology_agent_example import CUSTOM_AGENT
from optix_bus.runtime.topology_templates import TEMPLATES, WIDTH, template, write_topology
from optix_bus.types import EpisodeData
from tests.runtime.topologies import read

FAKE = replace(
    TEMPLATES["cartpole_ppo"],
    nodes={
        "collector": {"node": "tests.runtime.fake_nodes:Collector", "role": "train", "window_steps": 9},
        "learner": {"node": "tests.runtime.fake_nodes:Learner"},
        "driver": {"node": "tests.runtime.fake_nodes:Driver", "windows": 3, "patience": 1},
    },
)


def test_a_written_template_is_a_right_topology_with_the_chosen_options():
    topology = read(write_topology(FAKE))
    assert topology.node("collector").settings.window_steps == 9
    assert topology.agent.hyperparameters == {"learning_rate": 3e-4}


def test_every_option_stands_in_it_with_its_description():
    text = write_topology(FAKE)
    assert "window_steps: 9" in text
    assert "# Steps of each environment in a window (transitions)." in text
    assert "# environments: 8" in text
    assert "# gae_lambda: 0.95" in text
    assert "Collects windows." in text
    assert "# idle_seconds: " in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_an_option_that_does_nothing_in_the_role_is_left_out():
    assert "episodes:" not in write_topology(FAKE)


def test_the_commented_defaults_may_be_put_into_force_as_they_stand():
    text = write_topology(FAKE)
    awake = [line.replace("# ", "", 1) if _is_option(line) else line for line in text.splitlines()]
    assert read("\n".join(awake) + "\n").digest != ""
    assert read("\n".join(awake) + "\n").node("collector") == read(text).node("collector")


def _is_option(line):
    word, colon, _ = line.strip().removeprefix("# ").partition(":")
    return line.strip().startswith("# ") and bool(colon) and word.isidentifier()


def test_a_template_cannot_set_what_a_class_does_not_have():
    wrong = replace(FAKE, nodes={"driver": {"node": "tests.runtime.fake_nodes:Driver", "widnows": 3}})
    with pytest.raises(ConfigurationError, match="widnows"):
        write_topology(wrong)


def test_an_unknown_template_gets_a_suggestion():
    with pytest.raises(ConfigurationError, match="did you mean 'custom_agent'"):
        template("custom-agent")


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_passes_validate(name, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_agent", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    chosen = template(name)
    (tmp_path / "topology.yaml").write_text(write_topology(chosen))
    for file, text in chosen.files.items():
        (tmp_path / file).write_text(text)
    topology = load_topology(tmp_path / "topology.yaml")
    assert list(topology.processes)
    assert topology.shares_agent == (name == "custom_agent")
    assert {entry.role for entry in topology.nodes} >= {"train"}


def test_the_agent_of_the_template_learns(tmp_path):
    namespace = {}
    exec(CUSTOM_AGENT, namespace)
    agent = namespace["MyAgent"](observation_size=2, actions=2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        observations = rng.normal(size=(64, 4, 2))
        actions = np.array([[agent.act(one) for one in row] for row in observations])
        rewards = (actions == (observations[..., 0] > 0)).astype(float)  # the sign of the first number pays
        over = np.ones_like(rewards, bool)
        agent.learn(EpisodeData(observations, actions, rewards, over, np.zeros_like(over)))
    assert rewards.mean() > 0.9
    agent.save_weights(str(tmp_path / "weights"))
    again = namespace["MyAgent"](observation_size=2, actions=2)
    again.load_weights(str(tmp_path / "weights"))
    assert np.array_equal(again.weights, agent.weights)
