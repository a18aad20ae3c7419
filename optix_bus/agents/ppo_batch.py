"""From a window to the batch of a PPO update: values, advantages, old log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.batch import Batch, PPOUpdate
from optix_bus.agents.experience import Experience
from optix_bus.agents.heads import Head
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer

Array = np.ndarray[Any, Any]


def make_batch(
    experience: Experience,
    networks: PPOUpdate,
    params: Mapping[str, Any],
    *,
    policy_version: int,
    head: Head,
    obs_normalizer: ObsNormalizer | None = None,
    reward_normalizer: RewardNormalizer | None = None,
) -> Batch:
    """Evaluate a window with the present networks.

    The old log-probabilities are recomputed where the window was acted by the present version, or recorded
    none; otherwise the recorded ones count: those of an older policy cannot be recomputed any more.

    Args:
        experience: the window.
        networks: of the learner, before the update.
        params: hyperparameters ``gamma`` and ``gae_lambda``.
        policy_version: of the networks, as the agent counts; the window's ``learner_version`` goes before it.
        head: what becomes of the actor's outputs.
        obs_normalizer: scales observations; it is only read.
        reward_normalizer: takes in the rewards, then scales them.

    Raises:
        Unsuitable: actions that the actor cannot have chosen, or masks that nothing here can heed.
    """
    shape, rows = experience.rewards.shape, experience.valid.reshape(-1)
    observations = _scaled(experience.observations, obs_normalizer).reshape(
        -1, *experience.observations.shape[2:]
    )
    actions = head.read(experience.actions.reshape(len(rows), -1)[rows])
    masks = None
    if experience.action_masks is not None:
        masks = experience.action_masks.reshape(len(rows), -1)[rows]
        _check_masks(masks, actions, head, networks)
    # Rows that are no transitions may hold anything; zero is as good as any value for them.
    values = np.where(rows, networks.values(observations), 0.0)
    after = networks.values(_scaled(experience.after, obs_normalizer))
    rewards = experience.rewards
    if reward_normalizer is not None:
        reward_normalizer.update(rewards, experience.dones, experience.valid)
        rewards = reward_normalizer.normalize(rewards)
    advantages, returns = experience.advantages(
        values.reshape(shape), after, rewards, params["gamma"], params["gae_lambda"]
    )
    observations = observations[rows]
    recorded = experience.log_probs
    learner = policy_version if experience.learner_version is None else experience.learner_version
    own = recorded is None or experience.policy_version == learner
    if own or recorded is None:
        log_probs = networks.log_probs(observations, actions, *(() if masks is None else (masks,)))
    else:
        log_probs = recorded.reshape(-1)[rows].astype(np.float32)
    return Batch(
        observations=observations,
        actions=actions,
        log_probs=log_probs,
        advantages=advantages.reshape(-1)[rows].astype(np.float32),
        returns=returns.reshape(-1)[rows].astype(np.float32),
        values=values[rows].astype(np.float32),
        on_policy=own,
        masks=masks,
    )


def _scaled(observations: Array, normalizer: ObsNormalizer | None) -> npt.NDArray[np.float32]:
    return np.asarray(observations, np.float32) if normalizer is None else normalizer.normalize(observations)


def _check_masks(masks: npt.NDArray[np.bool_], actions: Array, head: Head, networks: PPOUpdate) -> None:
    if not getattr(networks, "takes_masks", False):
        raise Unsuitable(
            "found action masks in the window, but this agent learns as if every action were allowed; use "
            "ppo, or leave action_masks out of the window"
        )
    chosen = head.chosen(actions, masks.shape[1])
    if chosen is None:
        raise Unsuitable(
            f"found action masks of {masks.shape[1]} entries in the window, which do not fit actions of the "
            f"head {head.description()['head']}"
        )
    forbidden = int((chosen & ~masks).any(axis=1).sum())
    if forbidden:
        raise Unsuitable(
            f"found {forbidden} of {len(masks)} actions in the window that their own action mask forbids; "
            "give the mask that was in force when the action was chosen"
        )
