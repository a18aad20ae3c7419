"""What agents with a replay do alike in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.tensorflow.base import TensorFlowLearner
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet, NamedArrays


class RememberingLearner(TensorFlowLearner):
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

    def state(self) -> NamedArrays:
        """As that of every agent, with targets and clocks, without the replay: see `replay_state`."""
        state = super().state()
        return NamedArrays(state.arrays, {**state.metadata, **self._counters()})

    def load_state(self, state: NamedArrays) -> None:
        """Go on from a state; the replay stays, see `load_replay_state`."""
        super().load_state(state)
        self._load_counters(state.metadata)
        self.reset_cache()

    def replay_state(self) -> NamedArrays:
        """The replay: every transition, priorities and open ends."""
        return self._memory.state()

    def load_replay_state(self, state: NamedArrays) -> None:
        """Go on with what `replay_state` returned.

        Raises:
            CheckpointError: it belongs to another kind of agent; nothing has changed then.
        """
        self._memory.load_state(state, self._hyperparams.params)

    def save_weights(self, path: str) -> None:
        """Write `state` and, beside it, `replay_state`."""
        super().save_weights(path)
        self._memory.save(path)

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; without a replay beside the weights, that in hand stays."""
        super().load_weights(path)
        self._memory.load(path, self._hyperparams.params)

    def _counters(self) -> dict[str, Any]:
        return {"memory": self._memory.clocks()}

    def _load_counters(self, metadata: Mapping[str, Any]) -> None:
        self._memory.load_clocks(metadata.get("memory", {}))
