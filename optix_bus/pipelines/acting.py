"""One way to act, whatever the agent offers: a batch at once, or row by row through `act`."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Acting, Remembering

Array = np.ndarray[Any, Any]


class Actor:
    """The acting half of an agent as pipelines use it.

    An agent with ``act_batch`` answers for all environments at once. Otherwise, or where a subclass has
    changed ``act`` alone, ``act`` is asked row by row. Optional hooks are used where they exist: ``reseed``,
    ``episode_start(mask)``, ``memory()`` with ``load_memory(memory)`` (see `Remembering`), and two context
    managers: ``evaluation_mode()``, and ``steady_weights()`` around all actions of a window.

    Raises:
        ConfigurationError: the agent can do neither, or it remembers and is asked row by row for several.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.by_rows = _acts_by_rows(agent)
        self._episode_start = getattr(agent, "episode_start", None)
        self._memory: Remembering | None = agent if _remembers(agent) else None
        asked, keyword = (agent.act, "action_mask") if self.by_rows else (agent.act_batch, "action_masks")
        self._takes_masks = _accepts(asked, keyword)
        self._takes_deterministic = not self.by_rows and _accepts(agent.act_batch, "deterministic")

    def act(self, observations: Array, deterministic: bool, masks: Array | None = None) -> Acting:
        """Act for ``[B, *obs_shape]``.

        ``masks`` ``[B, entries]`` say which actions are allowed; they reach an agent whose ``act_batch``
        takes ``action_masks``, or whose ``act`` takes ``action_mask``.
        """
        options: dict[str, Any] = {}
        if self.by_rows:
            if self._memory is not None and len(observations) > 1:
                raise ConfigurationError(
                    f"{type(self._agent).__name__} remembers its episode, but is asked for "
                    f"{len(observations)} environments one by one, because it changes act alone: change "
                    "act_batch too, or use one environment"
                )
            # A copy, because agents may keep or change what they are given.
            if masks is None or not self._takes_masks:
                return Acting(_stack([self._agent.act(row.copy()) for row in observations]))
            pairs = zip(observations, masks, strict=True)
            return Acting(_stack([self._agent.act(row.copy(), action_mask=mask) for row, mask in pairs]))
        if self._takes_deterministic:
            options["deterministic"] = deterministic
        if masks is not None and self._takes_masks:
            options["action_masks"] = masks
        answer = self._agent.act_batch(observations, **options)
        return answer if isinstance(answer, Acting) else Acting(np.asarray(answer))

    @property
    def follows_starts(self) -> bool:
        """Whether the agent wants to hear where episodes begin."""
        return self._episode_start is not None

    def episode_start(self, mask: Array) -> None:
        """Say in which of the ``[B]`` environments an episode begins with the next observation."""
        if self._episode_start is not None:
            self._episode_start(mask)

    def memory(self) -> Array | None:
        """What the agent remembers of the open episodes, ``[B, ...]``; None where it remembers nothing."""
        return None if self._memory is None else self._memory.memory()

    def load_memory(self, memory: Array) -> None:
        """Go on with this memory, where the agent has one."""
        if self._memory is not None:
            self._memory.load_memory(memory)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw the randomness of acting from this generator, where the agent allows it."""
        if hasattr(self._agent, "reseed"):
            self._agent.reseed(rng)

    def steady(self) -> AbstractContextManager[None]:
        """Around a window, in which weights change only through the agent, where it wants to know that."""
        hook = getattr(self._agent, "steady_weights", None)
        manager: AbstractContextManager[None] = hook() if callable(hook) else contextlib.nullcontext()
        return manager

    def can_be_deterministic(self) -> bool:
        """Whether the agent can be asked for its best action instead of a drawn one."""
        return self._takes_deterministic or hasattr(self._agent, "evaluation_mode")

    @contextlib.contextmanager
    def evaluating(self, deterministic: bool) -> Iterator[None]:
        """Inside, a ``deterministic`` agent is in its own evaluation mode, where it has one."""
        if deterministic and hasattr(self._agent, "evaluation_mode"):
            with self._agent.evaluation_mode():
                yield
        else:
            yield


def _remembers(agent: Any) -> bool:
    """Whether it is `Remembering`. To ask a protocol that costs more than acting, where the answer is no."""
    return all(getattr(agent, name, None) is not None for name in ("episode_start", "memory", "load_memory"))


def _acts_by_rows(agent: Any) -> bool:
    if not callable(getattr(agent, "act_batch", None)):
        if not callable(getattr(agent, "act", None)):
            raise ConfigurationError(
                f"{type(agent).__name__} cannot act: expected an agent with act(observation) or "
                "act_batch(observations)"
            )
        return True
    return _depth(type(agent), "act") < _depth(type(agent), "act_batch")


def _depth(cls: type, name: str) -> int:
    """How far up the method is defined: 0 in the class itself."""
    owners = [position for position, base in enumerate(cls.__mro__) if name in vars(base)]
    return owners[0] if owners else len(cls.__mro__)


def _accepts(method: Any, keyword: str) -> bool:
    # Of a method, the function: a pipeline gets a new policy of the same class for each window.
    function = getattr(method, "__func__", method)
    try:
        return _function_accepts(function, keyword)
    except TypeError:  # a callable that cannot be hashed
        return _function_accepts.__wrapped__(function, keyword)


@functools.lru_cache(maxsize=64)
def _function_accepts(method: Any, keyword: str) -> bool:
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _stack(actions: list[Any]) -> Array:
    try:
        return np.asarray([np.asarray(action) for action in actions])
    except ValueError as error:
        shapes = sorted({np.shape(action) for action in actions})
        raise ConfigurationError(f"act gave actions of different shapes: {shapes}") from error
