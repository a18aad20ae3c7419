"""What is checked of the environment: it is really made, and the agent really looked at against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from tests.runtime.test_topology_agent import with_agent
from tests.runtime.topologies import RIGHT, only_problem, problems, read


def test_an_environment_that_exists_and_fits_is_right():
    assert read(RIGHT, build_environment=True).environment.id == "CartPole-v1"


@pytest.mark.parametrize(
    ("id", "suggestion"),
    [("CartPol-v1", "CartPole-v1"), ("Cartpole-v1", "CartPole-v1"), ("Acrobot-v7", "Acrobot-v1")],
)
def test_an_environment_that_does_not_exist_has_a_place_and_a_suggestion(id, suggestion):
    found = only_problem("CartPole-v1", id, build_environment=True)
    assert (found.line, found.column) == (6, 7)
    assert f"there is no environment '{id}'" in found.message
    assert found.suggestion == f"did you mean '{suggestion}'?"


def test_a_module_that_should_register_an_environment_and_is_not_there_is_named():
    found = only_problem("CartPole-v1", "no_such_module:Env-v0", build_environment=True)
    assert "no_such_module" in found.message


def test_an_argument_that_the_environment_does_not_take_is_found_at_kwargs():
    found = only_problem("id: CartPole-v1", "id: CartPole-v1\n  kwargs: {gravty: 3}", build_environment=True)
    assert (found.line, found.column) == (7, 11)
    assert "gravty" in found.message


def test_an_agent_that_does_not_fit_the_actions_is_found_at_its_algorithm():
    found = only_problem("algorithm: ppo", "algorithm: td3", build_environment=True)
    assert (found.line, found.column) == (8, 14)
    assert "td3 does not fit CartPole-v1: actions are discrete, expected box" in found.message
    assert found.suggestion.startswith("what fits: ppo, dqn")


def test_a_missing_extra_says_what_to_install(monkeypatch):
    def without_box2d(*_args, **_kwargs):
        raise gymnasium.error.DependencyNotInstalled("box2d is not installed")

    monkeypatch.setattr(gymnasium, "make", without_box2d)
    found = only_problem("CartPole-v1", "LunarLander-v3", build_environment=True)
    assert "pip install 'optix-bus[box2d]'" in found.message
    assert (found.line, found.column) == (6, 7)


def test_the_environment_is_closed_again(monkeypatch):
    closed = []
    made = gymnasium.make("CartPole-v1")
    monkeypatch.setattr(made, "close", lambda: closed.append(True))
    monkeypatch.setattr(gymnasium, "make", lambda *_args, **_kwargs: made)
    read(RIGHT, build_environment=True)
    assert closed == [True]


def test_spaces_are_the_business_of_a_users_own_agent():
    text = with_agent("  class: tests.runtime.fake_nodes:SixMethods\n  arguments: {size: 1}\n")
    assert read(text.replace("CartPole-v1", "Pendulum-v1"), build_environment=True)


def test_mistakes_elsewhere_do_not_hide_those_of_the_environment():
    text = RIGHT.replace("CartPole-v1", "CartPol-v1").replace("window_steps: 128", "windw_steps: 128")
    assert [problem.line for problem in problems(text, build_environment=True)] == [6, 15]


def test_checking_the_environment_imports_no_framework(tmp_path):
    path = tmp_path / "topology.yaml"
    path.write_text(RIGHT)
    code = (
        "import sys\n"
        "from optix_bus.runtime.topology import load_topology\n"
        f"load_topology({str(path)!r})\n"
        "print([m for m in ('torch', 'tensorflow', 'jax', 'zmq') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
