"""From named arrays to something that acts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.mlp import Forward
from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Policy
from optix_bus.types import NamedArrays

FORMAT = 1


#: What becomes of a network's outputs: ``head`` of a description, and the function that makes its policy from
#: the forward pass, the description and a generator.
HEADS = {"categorical": "optix_bus.agents.acting.categorical:make"}


def is_portable(state: NamedArrays) -> bool:
    """Whether `load_policy` can act with this state, or only the agent itself can."""
    description = state.metadata.get("policy")
    return isinstance(description, dict) and description.get("kind") == "mlp"


def make_policy(forward: Any, description: Mapping[str, Any], rng: np.random.Generator | None) -> Policy:
    """The policy of a description around a forward pass, which may be of any framework.

    Raises:
        ConfigurationError: the description names a head that there is not.
    """
    head = description.get("head")
    if head not in HEADS:
        raise ConfigurationError(
            f"found a policy with head {head!r}, expected one of {', '.join(sorted(HEADS))}"
        )
    module, name = HEADS[head].split(":")
    make: Callable[..., Policy] = getattr(importlib.import_module(module), name)
    return make(forward, description, rng)


def load_policy(state: NamedArrays, rng: np.random.Generator | None = None) -> Any:
    """The acting half of an agent from its state, without loading a framework: a `Policy`.

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
    if description.get("kind") != "mlp" or description.get("head") not in HEADS:
        raise ConfigurationError(
            f"found a policy of kind {description.get('kind')!r} with head {description.get('head')!r}; "
            f"NumPy acts for mlp with {', '.join(sorted(HEADS))}. Let the agent itself act: "
            "agent.load_state(state), then agent.policy()"
        )
    forward = Forward(description["layers"], state.arrays, description.get("normalizer"))
    return make_policy(forward, description, rng)
