"""One environment, one window after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines.environments import build_environment
from optix_bus.pipelines.steppers import ListStepper, Stepper
from optix_bus.pipelines.stepping import SteppingPipeline
from optix_bus.types import EpisodeData

_BY_ENVIRONMENT = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "final_observations",
    "log_probs",
    "values",
    "episode_starts",
    "action_masks",
    "final_action_masks",
)


class BatchPipeline(SteppingPipeline):
    """Steps one environment; arrays of a window are ``[T, ...]``. See `SteppingPipeline`.

    Args:
        env: a Gymnasium environment, which stays the caller's to close, or a function that makes one.
        agent: what acts.
        window_size: steps of a window.
        env_id: a Gymnasium id, instead of ``env``.
        n_steps: another name for ``window_size``.
        seed, role, max_evaluation_steps, keep_infos: as for `SteppingPipeline`.
    """

    def __init__(
        self,
        env: Any = None,
        agent: Any = None,
        window_size: int | None = None,
        *,
        env_id: str | None = None,
        n_steps: int | None = None,
        seed: int | None = None,
        role: str = "train",
        max_evaluation_steps: int | None = None,
        keep_infos: bool = True,
    ) -> None:
        if (env is None) == (env_id is None):
            raise ConfigurationError("BatchPipeline needs an environment: pass either env or env_id")
        if window_size is not None and n_steps is not None and window_size != n_steps:
            raise ConfigurationError(
                f"found window_size={window_size} and n_steps={n_steps}: they are one setting, pass one"
            )
        if hasattr(env, "num_envs"):
            raise ConfigurationError(
                f"found a vector environment ({env}), expected a single one: "
                "use VectorBatchPipeline(envs=..., agent=...)"
            )
        given = hasattr(env, "step") and not isinstance(env, type)
        #: What it was built with and is the caller's to close; None where it makes its own.
        self.given_environment = env if given else None
        super().__init__(
            _given(env) if given else _built(env, env_id),
            1,
            builds_more=not given,
            agent=agent,
            window_size=next((size for size in (window_size, n_steps) if size is not None), 200),
            seed=seed,
            role=role,
            max_evaluation_steps=max_evaluation_steps,
            keep_infos=keep_infos,
        )

    def _window(self, *args: Any) -> EpisodeData:
        data = super()._window(*args)
        for name in _BY_ENVIRONMENT:
            array = getattr(data, name)
            if array is not None:
                setattr(data, name, array[:, 0])
        if data.hidden_states is not None:
            data.hidden_states = data.hidden_states[0]
        data.infos = data.infos.of_row(0)  # type: ignore[attr-defined]  # a SparseInfos, made by Window
        return data


def _given(env: Any) -> Callable[[], Stepper]:
    return lambda: ListStepper([env], owned=False)


def _built(env: Any, env_id: str | None) -> Callable[[], Stepper]:
    make = env if env_id is None else lambda: build_environment(env_id)
    if not callable(make):
        raise ConfigurationError(
            f"found env = {env!r}, expected a Gymnasium environment or a function that makes one"
        )
    return lambda: ListStepper([make()], owned=True)
