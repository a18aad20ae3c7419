"""Every agent of the library, small enough to be made hundreds of times."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from optix_bus.agents import card, make_agent
from optix_bus.agents.factory import _BUILDERS
from optix_bus.interfaces import BaseAgent
from optix_bus.types import ArraySpec, SpaceSpec
from tests.agents.windows import VECTOR

#: An asymmetric box: actions must come in these units.
BOX = SpaceSpec(
    "box",
    ArraySpec("box", (3,), "float32"),
    ArraySpec("box", (2,), "float32", low=(-1.0, 0.0), high=(3.0, 0.5)),
)
#: (framework, algorithm) of all that is installed here.
EVERY = [kind for kind in sorted(_BUILDERS) if importlib.util.find_spec(kind[0]) is not None]
NAMES = ["-".join(kind) for kind in EVERY]
#: The same; what compiles for each new agent is tried often with one algorithm of its framework only.
OFTEN = [
    pytest.param(kind, marks=() if "torch" in kind or "ppo" in kind else pytest.mark.slow) for kind in EVERY
]
#: Little work for each window; only those that the algorithm has are given.
_SMALL = {
    "n_epochs": 2, "minibatch_size": 16, "learning_rate": 1e-2, "batch_size": 8, "learning_starts": 16,
    "train_freq": 8, "gradient_steps": 1, "replay_capacity": 500, "target_update_freq": 4, "bptt_len": 8,
    "warmup": 16,
}  # fmt: skip


def spaces_of(kind: tuple[str, str]) -> SpaceSpec:
    """Spaces that fit this agent."""
    return VECTOR if card(kind[1]).fits(VECTOR) is None else BOX


@functools.cache
def _made_once(kind: tuple[str, str]) -> tuple[Any, Any, Any]:
    agent: Any = small_agent(kind)
    replay = agent.replay_state() if hasattr(agent, "replay_state") else None
    return agent, agent.state(), replay


def shared_agent(kind: tuple[str, str]) -> BaseAgent:
    """One agent for many tests, as it was when it was made: what it has compiled is compiled once."""
    agent, state, replay = _made_once(kind)
    agent.load_state(state)
    if replay is not None:
        agent.load_replay_state(replay)
    return agent


def small_agent(
    kind: tuple[str, str],
    seed: int | None = 0,
    spaces: SpaceSpec | None = None,
    hidden_sizes: tuple[int, ...] | None = (16,),
    **hyperparams: Any,
) -> BaseAgent:
    """An agent of this framework and algorithm with small networks, for `spaces_of` it or others."""
    framework, algorithm = kind
    known = card(algorithm).defaults()
    small = {name: value for name, value in _SMALL.items() if name in known}
    return make_agent(
        spaces or spaces_of(kind),
        framework=framework,
        algorithm=algorithm,
        hidden_sizes=hidden_sizes,
        hyperparams={**small, **hyperparams},
        device="cpu" if framework == "torch" else "auto",
        seed=seed,
    )
