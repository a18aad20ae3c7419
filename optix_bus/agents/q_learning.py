"""Learning action values from a replay: the order of things, the same for every framework."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.rl import ObsNormalizer, Transitions
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]

# Gradient steps whose transitions are drawn at once; bounds the memory that this takes.
_DRAWN_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Outcome:
    """What gradient steps found.

    Attributes:
        errors: ``[steps * batch_size]``, what becomes of the priorities.
        loss, q_mean, grad_norm: ``[steps]``.
    """

    errors: npt.NDArray[Any]
    loss: npt.NDArray[Any]
    q_mean: npt.NDArray[Any]
    grad_norm: npt.NDArray[Any]

    @property
    def is_finite(self) -> bool:
        """Whether all of it is."""
        return all(bool(np.isfinite(getattr(self, f.name)).all()) for f in dataclasses.fields(self))


class QUpdate(Protocol):
    """Gradient steps in a framework."""

    def update(self, batch: Transitions, steps: int, params: Mapping[str, Any]) -> Outcome:
        """As many gradient steps, each on its share of the rows of the batch, in their order."""
        ...

    def synchronise(self) -> None:
        """Give the target network the weights of the one that learns."""
        ...

    def remember(self) -> Callable[[], None]:
        """Remember weights and moments; the function that comes back restores them."""
        ...

    def is_finite(self) -> bool:
        """Whether all weights are."""
        ...


def learn_values(
    window: EpisodeData,
    way: QUpdate,
    memory: OffPolicyMemory,
    params: Mapping[str, Any],
    rng: np.random.Generator,
    n_actions: int,
    obs_normalizer: ObsNormalizer | None,
    check: Callable[[Experience], None] | None = None,
) -> dict[str, float]:
    """Store a window and make the gradient steps that it owes; ``check`` looks at it before.

    Returns:
        loss, q_mean, td_error (mean of its size) and grad_norm as means over the gradient steps, where there
        were any; updates, samples, replay_size, environment_steps, gradient_steps and
        steps_without_successor.

    Raises:
        LearningFailure: something was not finite; replay, clocks, weights and moments are as before.
        ConfigurationError: the window has no usable shape.
        Unsuitable: it holds actions that there are not, or that their own masks forbid.
    """
    experience = read_experience(window)
    _check_actions(window.episode_id, experience, n_actions)
    _check_masks(window.episode_id, experience, n_actions)
    if check is not None:
        check(experience)
    due, forget = memory.take(experience, params)
    found: list[Outcome] = []
    if due:
        restore = way.remember()
        try:
            _steps(way, memory, due, params, rng, obs_normalizer, found)
        except BaseException:
            restore()
            forget()
            raise
        if not all(outcome.is_finite for outcome in found) or not way.is_finite():
            restore()
            forget()
            raise _failure(window.episode_id, experience, found)
    if obs_normalizer is not None:
        obs_normalizer.update(experience.observations[experience.valid])
    report = {
        "updates": float(due),
        "samples": float(experience.valid.sum()),
        "replay_size": float(0 if memory.replay is None else len(memory.replay)),
        **{name: float(value) for name, value in memory.clocks().items()},
        "steps_without_successor": float(experience.without_successor),
    }
    if not due:
        return report
    means = {name: _mean(found, name) for name in ("loss", "q_mean", "grad_norm")}
    return {**means, "td_error": _mean(found, "errors", np.abs), **report}


def _steps(
    way: QUpdate,
    memory: OffPolicyMemory,
    due: int,
    params: Mapping[str, Any],
    rng: np.random.Generator,
    obs_normalizer: ObsNormalizer | None,
    found: list[Outcome],
) -> None:
    replay, size, every = memory.replay, params["batch_size"], params["target_update_freq"]
    assert replay is not None
    # The target stands still between two takeovers: what depends on it alone is computed for many steps at
    # once. With priorities each step changes what the next one draws.
    together = 1 if params["per_alpha"] > 0.0 else max(1, _DRAWN_BYTES // (size * replay.row_bytes))
    while due:
        steps = min(due, together, every - memory.gradient_steps % every)
        batch = memory.sample(steps * size, rng, params)
        if obs_normalizer is not None:
            batch = dataclasses.replace(
                batch,
                observations=obs_normalizer.normalize(batch.observations),
                next_observations=obs_normalizer.normalize(batch.next_observations),
            )
        outcome = way.update(batch, steps, params)
        found.append(outcome)
        if not outcome.is_finite:
            return
        if params["per_alpha"] > 0.0:
            replay.update_priorities(batch.indices, outcome.errors)
        memory.gradient_steps += steps
        if memory.gradient_steps % every == 0:
            way.synchronise()
        due -= steps


def _check_actions(window: int, experience: Experience, n_actions: int) -> None:
    actions = experience.actions[experience.valid]
    if actions.ndim != 1 or actions.dtype.kind not in "iu":
        raise Unsuitable(
            f"window {window}: actions are {actions.dtype}{list(actions.shape[1:])}, expected one whole "
            "number each; this agent is for discrete actions"
        )
    if not 0 <= int(actions.min()) <= int(actions.max()) < n_actions:
        raise Unsuitable(
            f"window {window}: found actions {int(actions.min())} to {int(actions.max())}, but the network "
            f"has values for 0 to {n_actions - 1}"
        )


def _check_masks(window: int, experience: Experience, n_actions: int) -> None:
    masks, following, valid = experience.action_masks, experience.next_masks, experience.valid
    if masks is None or following is None:
        return
    if masks.shape[2:] != (n_actions,):
        raise Unsuitable(
            f"window {window}: found action masks of {list(masks.shape[2:])} entries, expected "
            f"[{n_actions}], one for each action"
        )
    chosen = np.take_along_axis(masks, experience.actions.astype(np.int64)[..., None], axis=2)[..., 0]
    if not chosen[valid].all():
        raise Unsuitable(
            f"window {window}: found {int((~chosen[valid]).sum())} of {int(valid.sum())} actions that their "
            "own action mask forbids; give the mask that was in force when the action was chosen"
        )
    if not following[valid].any(axis=-1).all():
        raise Unsuitable(f"window {window}: found steps behind which the action masks allow nothing")


def _mean(found: list[Outcome], name: str, of: Callable[[Array], Array] = np.asarray) -> float:
    return float(np.mean(np.concatenate([of(getattr(outcome, name)) for outcome in found])))


def _failure(window: int, experience: Experience, found: list[Outcome]) -> LearningFailure:
    bad = [name for name in ("loss", "q_mean", "grad_norm") if not math.isfinite(_mean(found, name))]
    rewards, seen = experience.rewards[experience.valid], experience.observations[experience.valid]
    last = found[-1]
    steps = sum(int(np.isfinite(outcome.loss).sum()) for outcome in found) + 1
    return LearningFailure(
        f"window {window}: gradient step {steps} of it is not finite ({', '.join(bad) or 'weights'}; "
        f"loss {last.loss[-1]:.4g}, q_mean {last.q_mean[-1]:.4g}, grad_norm {last.grad_norm[-1]:.4g}); "
        "replay and weights are as before it. "
        f"The window holds rewards {rewards.min():.4g} to {rewards.max():.4g}, "
        f"observations {seen.min():.4g} to {seen.max():.4g}. Try a lower learning_rate, or scale rewards and "
        "observations"
    )
