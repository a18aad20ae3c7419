"""Acting where some actions are forbidden, for agents that choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.learner import Learner
from optix_bus.errors import Unsuitable
from optix_bus.interfaces import Acting

#: Heads of `optix_bus.agents.acting.load.HEADS` that take masks; of the others nothing can be forbidden.
_CHOOSING = ("categorical", "multi_categorical", "epsilon_greedy", "noisy_greedy")


class MaskedActing(Learner):
    """A `Learner` whose policy takes action masks."""

    def act(self, observation: Any, action_mask: Any = None) -> Any:
        """As `Learner.act`; ``action_mask`` ``[n_actions]`` is False where an action is forbidden."""
        if action_mask is None:
            return super().act(observation)
        masks = np.asarray(action_mask)[None]
        action = self.act_batch(np.asarray(observation)[None], action_masks=masks).actions[0]
        return int(action) if np.ndim(action) == 0 else action

    def act_batch(
        self,
        observations: np.ndarray[Any, Any],
        *,
        deterministic: bool = False,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> Acting:
        """As `Learner.act_batch`; ``action_masks`` ``[B, entries]`` say which actions are allowed.

        Raises:
            Unsuitable: the masks have another size, allow nothing, or this agent's actions cannot be masked.
        """
        if action_masks is None:
            return super().act_batch(observations, deterministic=deterministic)
        head = self._head()["head"]
        if head not in _CHOOSING:
            raise Unsuitable(
                f"found action masks for a policy with head {head}, expected one of {', '.join(_CHOOSING)}: "
                "only choices can be forbidden"
            )
        acting: Acting = self._acting.policy().act_batch(
            observations, deterministic=deterministic or self._deterministic, action_masks=action_masks
        )
        return acting


class ProbableActing(MaskedActing):
    """One whose policy also knows the probability of each action."""

    def action_probs(self, observation: Any) -> npt.NDArray[np.float32]:
        """Probability of each action for one observation, ``[n_actions]``; several choices side by side."""
        return np.asarray(self._acting.policy().action_probs(np.asarray(observation)[None])[0])
