"""From an environment to an agent that fits it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optix_bus.agents.cards import CARDS, Card, card_for
from optix_bus.agents.spaces import space_spec
from optix_bus.errors import ConfigurationError, MissingExtra, Unsuitable
from optix_bus.interfaces import BaseAgent
from optix_bus.types import HyperparamSet, SpaceSpec

_FRAMEWORKS = {
    "torch": "torch",
    "pytorch": "torch",
    "tensorflow": "tensorflow",
    "tf": "tensorflow",
    "jax": "jax",
    "flax": "jax",
}
#: What an extra brings, where that is more than the package it is called after.
_PACKAGES = {"tensorflow": ("tensorflow", "keras"), "jax": ("jax", "jaxlib", "flax", "optax")}
_BUILDERS = {
    ("tensorflow", "a2c"): "optix_bus.agents.tensorflow.make_a2c:make_a2c",
    ("tensorflow", "dqn"): "optix_bus.agents.tensorflow.make_dqn:make_dqn",
    ("tensorflow", "gaussian_ppo"): "optix_bus.agents.tensorflow.make_ppo:make_gaussian_ppo",
    ("tensorflow", "ppo"): "optix_bus.agents.tensorflow.make_ppo:make_ppo",
    ("tensorflow", "sac"): "optix_bus.agents.tensorflow.make_actor_critic:make_sac",
    ("tensorflow", "td3"): "optix_bus.agents.tensorflow.make_actor_critic:make_td3",
    ("jax", "ppo"): "optix_bus.agents.jax.make_ppo:make_ppo",
    ("torch", "a2c"): "optix_bus.agents.torch.make_a2c:make_a2c",
    ("torch", "dqn"): "optix_bus.agents.torch.make_dqn:make_dqn",
    ("torch", "rainbow"): "optix_bus.agents.torch.make_rainbow:make_rainbow",
    ("torch", "gaussian_ppo"): "optix_bus.agents.torch.make_ppo:make_gaussian_ppo",
    ("torch", "ppo"): "optix_bus.agents.torch.make_ppo:make_ppo",
    ("torch", "recurrent_ppo"): "optix_bus.agents.torch.make_recurrent_ppo:make_recurrent_ppo",
    ("torch", "sac"): "optix_bus.agents.torch.make_sac:make_sac",
    ("torch", "td3"): "optix_bus.agents.torch.make_td3:make_td3",
}


def make_agent(
    env: Any,
    framework: str = "torch",
    algorithm: str | None = None,
    deterministic: bool = False,
    hidden_sizes: Sequence[int] | None = None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
    device: str = "auto",
    seed: int | None = None,
    rnn: str | None = None,
) -> BaseAgent:
    """An agent with sensible networks for an environment.

    Args:
        env: a gymnasium environment, a vector of them, or a `SpaceSpec`. It is only looked at.
        framework: ``torch``, ``tensorflow`` (or ``tf``) or ``jax`` (or ``flax``).
        algorithm: by name; without one, the first that fits: discrete actions get PPO, continuous
            ones SAC, or TD3 where ``deterministic``.
        deterministic: ask for an algorithm whose policy is deterministic (continuous actions only).
        hidden_sizes: of every network; None takes those of the public benchmark tables.
        hyperparams: what differs from the card's defaults.
        device: ``auto`` or a device of the framework.
        seed: of weights, acting and shuffling; None takes it from the framework's generator.
        rnn: kind of memory, ``gru`` or ``lstm``, of an algorithm that has one; None takes the first.

    Raises:
        Unsuitable: no algorithm, or not the one asked for, fits the environment; says what would.
        ConfigurationError: an unknown framework, algorithm or hyperparameter.
        MissingExtra: the framework is not installed.
    """
    if framework not in _FRAMEWORKS:
        raise ConfigurationError(f"unknown framework {framework!r}; there is {', '.join(_FRAMEWORKS)}")
    spaces = space_spec(env)
    chosen = _choose(spaces, algorithm, deterministic)
    sizes = None if hidden_sizes is None else tuple(hidden_sizes)
    if sizes is not None and not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ConfigurationError(f"hidden_sizes are {list(sizes)}, expected whole numbers above 0")
    memory = _memory(chosen, rnn)
    return _builder(_FRAMEWORKS[framework], chosen)(spaces, sizes, hyperparams, device, seed, **memory)


def preload(framework: str = "torch") -> None:
    """Import what agents of a framework need, for processes that are forked from this one. No more than that:
    not one operation is computed, and no thread is started.

    Raises:
        ConfigurationError: an unknown framework.
        MissingExtra: the framework is not installed.
    """
    if framework not in _FRAMEWORKS:
        raise ConfigurationError(f"unknown framework {framework!r}; there is {', '.join(_FRAMEWORKS)}")
    _import(f"optix_bus.agents.{_FRAMEWORKS[framework]}.preload", _FRAMEWORKS[framework])


def _choose(spaces: SpaceSpec, algorithm: str | None, deterministic: bool) -> Card:
    continuous = spaces.action.kind == "box"
    if algorithm is not None:
        candidates = [card_for(algorithm, spaces)]
    elif deterministic and continuous:
        candidates = [each for each in CARDS.values() if each.is_deterministic]
    else:
        candidates = [each for each in CARDS.values() if not each.is_deterministic]
    reasons = [candidate.fits(spaces) for candidate in candidates]
    fitting = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
    if not fitting:
        raise Unsuitable("; ".join(reason for reason in reasons if reason))
    if deterministic and not continuous:
        raise Unsuitable(
            "deterministic=True asks for a deterministic policy over continuous actions, but "
            f"{spaces.environment} has {spaces.action.kind} actions; leave it out"
        )
    if deterministic and not fitting[0].is_deterministic:
        raise Unsuitable(
            f"deterministic=True asks for a deterministic policy, but that of {fitting[0].algorithm} is "
            "stochastic; leave one of the two out"
        )
    return fitting[0]


def _memory(chosen: Card, rnn: str | None) -> dict[str, str]:
    if rnn is None:
        return {}
    if rnn not in chosen.memories:
        known = ", ".join(chosen.memories)
        raise ConfigurationError(
            f"found rnn {rnn!r}, expected one of {known}"
            if known
            else f"found rnn {rnn!r}, but {chosen.algorithm} has no memory; leave it out, or take "
            "recurrent_ppo"
        )
    return {"rnn": rnn}


def _builder(framework: str, chosen: Card) -> Callable[..., BaseAgent]:
    if (framework, chosen.algorithm) not in _BUILDERS:
        raise Unsuitable(
            f"{chosen.algorithm} does not exist for {framework}; it does for {', '.join(chosen.frameworks)}"
        )
    module, name = _BUILDERS[framework, chosen.algorithm].split(":")
    builder: Callable[..., BaseAgent] = getattr(_import(module, framework), name)
    return builder


def _import(module: str, framework: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in _PACKAGES.get(framework, (framework,)):
            raise
        raise MissingExtra(missing, framework, f"by framework: {framework}") from error
