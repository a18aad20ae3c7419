"""From named arrays to something that acts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.ensemble import EnsemblePolicy
from optix_bus.agents.acting.images import forward_of
from optix_bus.agents.acting.noisy_dueling import NoisyDuelingForward
from optix_bus.agents.acting.recurrent import Memory, RecurrentForward, RecurrentPolicy
from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Policy
from optix_bus.types import NamedArrays

FORMAT = 1
#: Networks that NumPy can run.
KINDS = ("mlp", "noisy_dueling", "recurrent")
#: Several of them as one.
ENSEMBLE = "ensemble"

#: What becomes of a network's outputs: ``head`` of a description, and the function that makes its policy from
#: the forward pass, the description and a generator.
HEADS = {
    "bernoulli": "optix_bus.agents.acting.bernoulli:make",
    "categorical": "optix_bus.agents.acting.categorical:make",
    "deterministic": "optix_bus.agents.acting.deterministic:make",
    "epsilon_greedy": "optix_bus.agents.acting.epsilon_greedy:make",
    "gaussian": "optix_bus.agents.acting.gaussian:make",
    "multi_categorical": "optix_bus.agents.acting.multi_categorical:make",
    "noisy_greedy": "optix_bus.agents.acting.noisy_greedy:make",
    "squashed_gaussian": "optix_bus.agents.acting.squashed_gaussian:make",
}


def is_portable(state: NamedArrays) -> bool:
    """Whether `load_policy` can act with this state, or only the agent itself can."""
    return _portable(state.metadata.get("policy"))


def _portable(description: Any) -> bool:
    if not isinstance(description, dict):
        return False
    if description.get("kind") == ENSEMBLE:
        return all(_portable(member) for member in description["members"])
    return description.get("kind") in KINDS


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
    if description.get("kind") == ENSEMBLE:
        return _load_ensemble(state, description, rng)
    if description.get("kind") not in KINDS or description.get("head") not in HEADS:
        raise ConfigurationError(
            f"found a policy of kind {description.get('kind')!r} with head {description.get('head')!r}; "
            f"NumPy acts for {' and '.join(KINDS)} with {', '.join(sorted(HEADS))}. Let the agent itself "
            "act: agent.load_state(state), then agent.policy()"
        )
    if description["kind"] == "recurrent":
        step = RecurrentForward(description, state.arrays)
        memory = Memory(step, step.size)
        return RecurrentPolicy(memory, make_policy(memory, description, rng))
    if description["kind"] == "noisy_dueling":
        return make_policy(NoisyDuelingForward(description, state.arrays), description, rng)
    forward = forward_of(description["layers"], state.arrays, description.get("normalizer"))
    return make_policy(forward, description, rng)


def _load_ensemble(
    state: NamedArrays, description: Mapping[str, Any], rng: np.random.Generator | None
) -> EnsemblePolicy:
    """Members whose arrays stand below their names, each with a description of its own."""
    members = []
    for name, member in zip(description["names"], description["members"], strict=True):
        arrays = {
            key.removeprefix(f"{name}/"): array
            for key, array in state.arrays.items()
            if key.startswith(f"{name}/")
        }
        members.append(load_policy(NamedArrays(arrays, {"policy": member})))
    return EnsemblePolicy(members, description["weights"], rng)
