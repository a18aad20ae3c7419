"""Environments by id, and the errors of ids and arguments."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest

from optix_bus.errors import ConfigurationError, MissingExtra
from optix_bus.pipelines import build_environment, make_pipeline
from optix_bus.pipelines.environments import check_environment


def test_an_environment_is_built_with_its_arguments() -> None:
    environment = build_environment("CartPole-v1", {"max_episode_steps": 7, "sutton_barto_reward": True})
    environment.reset(seed=0)
    assert environment.spec.max_episode_steps == 7
    assert environment.step(0)[1] == 0.0


@pytest.mark.parametrize(("wrong", "right"), [("Cartpole-v1", "CartPole-v1"), ("CartPole-v9", "CartPole-v1")])
def test_an_id_that_does_not_exist_gets_a_suggestion(wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{wrong}' does not exist; did you mean '{right}'"):
        check_environment(wrong)


@pytest.mark.parametrize("id", ["no_such_module:Thing-v0", "not an id!", "Nothing/Like-This-v0"])
def test_every_kind_of_bad_id_is_one_kind_of_error(id: str) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        build_environment(id)


def test_arguments_that_the_constructor_refuses_are_shown() -> None:
    with pytest.raises(
        ConfigurationError, match=r"CartPole-v1 could not be built with \{'lenght': 2\}.*lenght"
    ):
        build_environment("CartPole-v1", {"lenght": 2})


@pytest.mark.parametrize(
    ("id", "package", "extra"),
    [
        ("LunarLander-v3", "Box2D", "box2d"),
        ("HalfCheetah-v5", "mujoco", "mujoco"),
        ("ALE/Pong-v5", "ale_py", "atari"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(
    id: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in [
        name for name in sys.modules if name.startswith(("gymnasium.envs.box2d", "gymnasium.envs.mujoco"))
    ]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingExtra, match=rf"environment {id}.*pip install 'optix-bus\[{extra}\]'"):
        build_environment(id)


def test_a_pipeline_over_an_unknown_id_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'CartPole-v1'"):
        make_pipeline("CartPol-v1")


def test_a_users_own_registered_environment_is_found() -> None:
    gymnasium.register("Counting-v0", "tests.pipelines.counting_environment:CountingEnvironment")
    try:
        assert build_environment("Counting-v0", {"lengths": (4,)}).unwrapped.lengths == (4,)
    finally:
        del gymnasium.registry["Counting-v0"]


def test_importing_pipelines_and_evaluators_loads_no_framework_and_no_gymnasium() -> None:
    code = (
        "import sys, optix_bus.pipelines, optix_bus.evaluators;"
        "print([m for m in ('torch', 'tensorflow', 'jax', 'gymnasium', 'zmq', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
