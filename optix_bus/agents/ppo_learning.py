"""One PPO update from a window, in whichever framework the networks are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix_bus.agents.batch import Batch, PPOUpdate
from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.ppo_batch import make_batch
from optix_bus.errors import LearningFailure
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData


def learn_window(
    data: EpisodeData,
    way: PPOUpdate,
    params: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    obs_normalizer: ObsNormalizer | None,
    reward_normalizer: RewardNormalizer | None,
    check: Callable[[Experience], None] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Learn from a window ``[T]`` or ``[T, B]``; the observations' statistics learn from it afterwards.

    Args:
        data: the window.
        way: how the networks are updated.
        params: hyperparameters of the card.
        rng: shuffles.
        obs_normalizer: of the agent.
        reward_normalizer: of the agent.
        check: looks at the window before anything is learnt from it.
        reading: what else `make_batch` asks for.

    Returns:
        What the update reports; samples, explained_variance (0 where the targets do not vary) and
        steps_without_successor.

    Raises:
        LearningFailure: something was not finite; networks, optimizers and statistics are as before.
        ConfigurationError: the window has no usable shape.
        Unsuitable: it holds actions or observations that the networks are not made for.
    """
    experience = read_experience(data)
    if check is not None:
        check(experience)
    options: dict[str, Any] = {
        "obs_normalizer": obs_normalizer,
        "reward_normalizer": reward_normalizer,
        **reading,
    }
    report = learn_experience(experience, data.episode_id, way, params, rng, **options)
    if obs_normalizer is not None:
        obs_normalizer.update(experience.observations[experience.valid])
    return report


def learn_experience(
    experience: Experience,
    window: int,
    way: PPOUpdate,
    params: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    reward_normalizer: RewardNormalizer | None,
    **reading: Any,
) -> dict[str, Any]:
    """The same from a window that was read already; ``window`` is its number, for errors."""
    rewards_seen = None if reward_normalizer is None else reward_normalizer.state()
    batch = make_batch(
        experience,
        way,
        params,
        reward_normalizer=reward_normalizer,
        **reading,
    )
    report = way.update(batch, params, rng)
    if not all(math.isfinite(value) for value in report.values()):
        if reward_normalizer is not None and rewards_seen is not None:
            reward_normalizer.load_state(rewards_seen)
        raise _failure(window, experience, batch, report)
    spread = float(np.var(batch.returns))
    explained = 1.0 - float(np.var(batch.returns - batch.values)) / spread if spread > 0.0 else 0.0
    return {
        **report,
        "explained_variance": explained,
        "samples": float(len(batch.actions)),
        "steps_without_successor": float(experience.without_successor),
    }


def _failure(
    window: int, experience: Experience, batch: Batch, report: Mapping[str, float]
) -> LearningFailure:
    ranges = {
        "rewards": experience.rewards[experience.valid],
        "observations": batch.observations,
        "values": batch.values,
        "returns": batch.returns,
        "advantages": batch.advantages,
        "log_probs": batch.log_probs,
    }
    found = ", ".join(f"{name} {array.min():.4g} to {array.max():.4g}" for name, array in ranges.items())
    bad = ", ".join(f"{name} {value}" for name, value in report.items() if not math.isfinite(value))
    return LearningFailure(
        f"window {window}: the update is not finite ({bad}); the weights are as before it. The window "
        f"holds {found}. Try a lower learning_rate, or normalise observations and rewards"
    )
