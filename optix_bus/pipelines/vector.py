"""Several environments side by side, so that the agent acts for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines.steppers import ListStepper, Stepper
from optix_bus.pipelines.stepping import SteppingPipeline
from optix_bus.pipelines.vector_stepper import VectorStepper


class VectorBatchPipeline(SteppingPipeline):
    """Steps ``B`` environments; arrays of a window are ``[T, B, ...]``. See `SteppingPipeline`.

    Args:
        env_fns: functions that make one environment each.
        agent: what acts.
        window_size: steps of *each* environment in a window, so that a window holds
            ``window_size * len(env_fns)`` transitions.
        async_envs: one process for each environment. Worth it where a step costs much more than the 50
            microseconds of talking to a process.
        envs: a Gymnasium vector environment in any autoreset mode, which stays the caller's to close,
            instead of ``env_fns``. With autoreset the rows between two episodes are no transitions
            (``valid`` is False there), and single episodes cannot be seeded.
        seed, role, max_evaluation_steps, keep_infos: as for `SteppingPipeline`.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]] | None = None,
        agent: Any = None,
        window_size: int = 256,
        async_envs: bool = False,
        *,
        envs: Any = None,
        seed: int | None = None,
        role: str = "train",
        max_evaluation_steps: int | None = None,
        keep_infos: bool = True,
    ) -> None:
        if (env_fns is None) == (envs is None):
            raise ConfigurationError("VectorBatchPipeline needs environments: pass either env_fns or envs")
        if envs is not None and async_envs:
            raise ConfigurationError(
                "async_envs is for env_fns: vector environments that exist run the way they were built"
            )
        #: What it was built with and is the caller's to close; None where it makes its own.
        self.given_environment = envs
        build: Callable[[], Stepper]
        if env_fns is None:
            if not hasattr(envs, "num_envs"):
                raise ConfigurationError(
                    f"found envs = {envs!r}, expected a gymnasium.vector.VectorEnv; a single environment "
                    "goes into BatchPipeline(env=...), functions that make environments into env_fns"
                )
            count = int(envs.num_envs)
            build = _given(envs)
        else:
            count = len(env_fns)
            build = _in_processes(env_fns) if async_envs else _in_a_row(env_fns)
        super().__init__(
            build,
            count,
            builds_more=env_fns is not None,
            agent=agent,
            window_size=window_size,
            seed=seed,
            role=role,
            max_evaluation_steps=max_evaluation_steps,
            keep_infos=keep_infos,
        )


def _given(envs: Any) -> Callable[[], Stepper]:
    return lambda: VectorStepper(envs, owned=False)


def _in_a_row(env_fns: Sequence[Callable[[], Any]]) -> Callable[[], Stepper]:
    return lambda: ListStepper([make() for make in env_fns], owned=True)


def _in_processes(env_fns: Sequence[Callable[[], Any]]) -> Callable[[], Stepper]:
    def build() -> Stepper:
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode

        # Observations are copied into the window at once, so the shared memory may be handed out as it is.
        envs = AsyncVectorEnv(list(env_fns), copy=False, autoreset_mode=AutoresetMode.DISABLED)
        return VectorStepper(envs, owned=True)

    return build
