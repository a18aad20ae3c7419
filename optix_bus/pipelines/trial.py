"""Whether environments keep to their seeds: tried on a second set of them, before somebody relies on it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optix_bus.pipelines.layout import ActionGate, layout_of
from optix_bus.pipelines.steppers import Stepper

Array = np.ndarray[Any, Any]

#: What depends on something else than the seed mostly does so from the first observation on.
_STEPS = 32


def keeps_to_seeds(build: Callable[[], Stepper], seeds: Sequence[int]) -> bool:
    """Reset environments twice with the same seeds and step them with the same random actions.

    Args:
        build: makes environments of their own; they are closed afterwards.
        seeds: one for each of them.

    Returns:
        Whether both began alike and went on alike, for 32 steps or to the end of the first episode. False
        also where they cannot be made or raise: then nothing is shown.
    """
    stepper = None
    try:
        stepper = build()
        space = copy.deepcopy(stepper.action_space)
        space.seed(0)
        gate = ActionGate(stepper.action_space, stepper.name)
        actions = np.array([[space.sample() for _ in seeds] for _ in range(_STEPS)], gate.layout.dtype)
        first, second = (_play(stepper, seeds, actions) for _ in range(2))
    except Exception:  # whatever a user's environment raises
        return False
    finally:
        if stepper is not None:
            with contextlib.suppress(Exception):  # it is not the one that is used
                stepper.close(failed=False)
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _play(stepper: Stepper, seeds: Sequence[int], actions: Array) -> list[Array]:
    """Everything that was seen, in order."""
    layout = layout_of(stepper.observation_space, "observations", stepper.name)
    now = np.zeros((stepper.n, *layout.shape), layout.dtype)
    rows = list(range(stepper.n))
    stepper.reset(rows, seeds, now)
    seen = [now.copy()]
    for sent in actions:
        rewards, flags = np.zeros(stepper.n), np.zeros((2, stepper.n), bool)
        ended, _, _ = stepper.step(sent, now, rewards, flags[0], flags[1], rows)
        seen += [now.copy(), rewards, flags]
        if ended:
            break
    return seen
