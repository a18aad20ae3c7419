"""Environments from their ids, with errors that say what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from optix_bus.errors import ConfigurationError, MissingExtra

#: Part of an entry point -> (package, extra of optix-bus).
_EXTRAS = {
    "box2d": ("box2d", "box2d"),
    "mujoco": ("mujoco", "mujoco"),
}


def build_environment(id: str, kwargs: Mapping[str, Any] | None = None) -> Any:
    """One environment by its Gymnasium id.

    Gymnasium's passive checker is left out: it looks at every step, and the pipeline checks what matters.

    Args:
        id: e.g. ``CartPole-v1``, or ``module:Name-v0`` to import ``module`` first; those in
            ``optix_bus/`` are our own, see `optix_bus.pipelines.own_environments`.
        kwargs: keyword arguments of `gymnasium.make`: those of the environment's constructor, and
            ``max_episode_steps`` to truncate earlier or later than the id does.

    Raises:
        ConfigurationError: there is no such id, or its constructor refused the arguments.
        MissingExtra: the environment needs a package that is not installed.
    """
    import gymnasium

    check_environment(id)
    try:
        return gymnasium.make(id, disable_env_checker=True, **dict(kwargs or {}))
    except Exception as error:
        raise _refused(id, kwargs, error) from error


def build_native(id: str, environments: int, kwargs: Mapping[str, Any] | None = None) -> Any:
    """The vector version that an id registers itself: many environments in one array computation.

    Raises:
        ConfigurationError: the id has none, or it refused the arguments.
    """
    import gymnasium

    check_environment(id)
    if _registered(id).vector_entry_point is None:
        raise ConfigurationError(
            f"environment {id} has no vector version of its own: use vectorization: sync or async"
        )
    options = dict(kwargs or {})
    try:
        return gymnasium.make_vec(id, environments, vectorization_mode="vector_entry_point", **options)
    except Exception as error:
        raise _refused(id, kwargs, error) from error


def check_environment(id: str) -> None:
    """Whether an environment of this id is registered; nothing is built.

    Raises:
        ConfigurationError: it is not; the message holds the nearest ids.
        MissingExtra: its family needs a package that is not installed.
    """
    import gymnasium

    if id.startswith("ALE/"):
        _register_atari(id)
    if id.startswith("optix_bus/"):
        from optix_bus.pipelines import own_environments

        own_environments.register()
    try:
        _registered(id)
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        raise ConfigurationError(f"environment '{id}' does not exist{_nearest(id)}: {error}") from error


def _registered(id: str) -> Any:
    """The registry's entry; a module named in the id is imported first, because it registers the rest."""
    import gymnasium

    module, colon, name = id.rpartition(":")
    if colon:
        importlib.import_module(module)
    return gymnasium.spec(name)


def name_of(environment: Any) -> str:
    """The id of an environment or vector environment; its class where it has none."""
    spec = _spec_of(environment)
    if spec is not None and getattr(spec, "id", None):
        return str(spec.id)
    return type(getattr(environment, "unwrapped", environment)).__name__


def step_limit(environment: Any) -> int | None:
    """Steps after which the environment truncates its episodes, as far as it says so."""
    limit = getattr(_spec_of(environment), "max_episode_steps", None)
    return int(limit) if limit is not None else None


def _spec_of(environment: Any) -> Any:
    spec = getattr(environment, "spec", None)
    if spec is None and hasattr(environment, "num_envs") and hasattr(environment, "get_attr"):
        # A vector of environments has no spec of its own unless it was made by id.
        spec = environment.get_attr("spec")[0]
    return spec


def _register_atari(id: str) -> None:
    try:
        # Importing the package registers its environments.
        importlib.import_module("ale_py")
    except ImportError as error:
        raise MissingExtra("ale-py", "atari", f"environment {id}") from error


def _nearest(id: str) -> str:
    import gymnasium

    # Ids differ in case only as often as in a letter: Cartpole-v1.
    by_lower = {known.lower(): known for known in gymnasium.registry}
    close = difflib.get_close_matches(id.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""


def _refused(id: str, kwargs: Mapping[str, Any] | None, error: Exception) -> ConfigurationError:
    import gymnasium

    if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
        entry = str(_registered(id).entry_point).lower()
        for part, (package, extra) in _EXTRAS.items():
            if part in entry:
                return MissingExtra(package, extra, f"environment {id}")
    given = f" with {dict(kwargs)}" if kwargs else ""
    return ConfigurationError(f"environment {id} could not be built{given}: {type(error).__name__}: {error}")
