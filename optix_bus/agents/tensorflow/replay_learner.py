"""What agents with a replay do alike in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.replay_learner import ReplayLearner
from optix_bus.agents.tensorflow.base import TensorFlowLearner
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet


class TensorFlowReplayLearner(ReplayLearner, TensorFlowLearner):
    """A `TensorFlowLearner` with a replay and clocks; the states of both move separately.

    Args:
        hyperparams: what differs from the card's defaults; the learning rate is the first optimizer's.
        obs_normalizer: scales observations; it learns from each window after the networks did.
        seed: of acting and drawing; None takes it from TensorFlow's generator.
        replay_path: folder for the files of a mapped replay, see `optix_bus.rl.ReplayBuffer`.
    """

    def __init__(
        self,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        obs_normalizer: ObsNormalizer | None,
        seed: int | None,
        replay_path: str | None,
    ) -> None:
        self._memory = OffPolicyMemory(replay_path)
        super().__init__(hyperparams, obs_normalizer, None, seed)
