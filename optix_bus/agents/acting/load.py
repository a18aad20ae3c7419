"""From named arrays to something that acts."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.agents.acting.categorical import CategoricalPolicy
from optix_bus.agents.acting.mlp import Forward
from optix_bus.errors import ConfigurationError
from optix_bus.types import NamedArrays

FORMAT = 1


def is_portable(state: NamedArrays) -> bool:
    """Whether `load_policy` can act with this state, or only the agent itself can."""
    description = state.metadata.get("policy")
    return isinstance(description, dict) and description.get("kind") == "mlp"


def load_policy(state: NamedArrays, rng: np.random.Generator | None = None) -> CategoricalPolicy:
    """The acting half of an agent from its state, without loading a framework.

    Needs only the arrays that the description names (``actor.*``, ``obs_normalizer.*``); they are copied.

    Args:
        state: what ``agent.state()`` returned, perhaps from another process.
        rng: source of randomness until `reseed`; without one, fresh entropy.

    Raises:
        ConfigurationError: there is no description, or it is for something that NumPy cannot run.
    """
    description: Any = state.metadata.get("policy")
    if not isinstance(description, dict):
        raise ConfigurationError(
            f"found a state without a policy description (metadata: {', '.join(state.metadata) or 'empty'}); "
            'expected metadata["policy"] as agents with state() write it'
        )
    if description.get("format") != FORMAT:
        raise ConfigurationError(
            f"found a policy description of format {description.get('format')!r}, expected {FORMAT}: "
            "it was written by another version of optix-bus"
        )
    if description.get("kind") != "mlp" or description.get("head") != "categorical":
        raise ConfigurationError(
            f"found a policy of kind {description.get('kind')!r} with head {description.get('head')!r}; "
            "NumPy acts for mlp with categorical. Let the agent itself act: agent.load_state(state), "
            "then agent.policy()"
        )
    forward = Forward(description["layers"], state.arrays, description.get("normalizer"))
    return CategoricalPolicy(forward, rng)
