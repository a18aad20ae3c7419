"""What agents with a replay do alike, in whichever framework: its state moves apart from the policy's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optix_bus.agents.learner import Learner
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.types import NamedArrays


class ReplayLearner(Learner):
    """A `Learner` with a replay and clocks, to be named before the framework's own among the base classes.

    ``_memory`` is in place before `Learner.__init__` is called.
    """

    _memory: OffPolicyMemory

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
        """The replay, as far as it is filled: every transition, priorities and open ends."""
        return self._memory.state()

    def load_replay_state(self, state: NamedArrays) -> None:
        """Go on with what `replay_state` returned.

        Raises:
            CheckpointError: it belongs to another kind of agent; nothing has changed then.
        """
        self._memory.load_state(state, self._hyperparams.params)

    def save_weights(self, path: str) -> None:
        """Write `state` to ``path``, a ``.safetensors`` file or a folder, and the replay beside it."""
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
