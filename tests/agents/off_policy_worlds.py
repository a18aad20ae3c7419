"""Spaces, windows, agents and gradient steps for the tests of SAC and TD3."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.agents import TorchSACAgent, TorchTD3Agent
from optix_bus.agents.torch.off_policy import Minibatch
from optix_bus.types import ArraySpec, EpisodeData, SpaceSpec

#: Bounds that are neither symmetric nor alike.
LOPSIDED = SpaceSpec(
    "lopsided",
    ArraySpec("box", (3,), "float32"),
    ArraySpec("box", (2,), "float32", low=(-1.0, 10.0), high=(3.0, 10.5)),
)
LOW, HIGH = (np.float32(bound) for bound in (LOPSIDED.action.low, LOPSIDED.action.high))
QUICK: dict[str, Any] = {
    "learning_starts": 0,
    "batch_size": 16,
    "replay_capacity": 500,
    "learning_rate": 1e-3,
}
AGENTS = {"sac": TorchSACAgent, "td3": TorchTD3Agent}


def box_window(seed: int = 0, steps: int = 12, width: int | None = 2, **changes: Any) -> EpisodeData:
    """A window of random numbers with ends inside, ``[T, B]``, or ``[T]`` where width is None."""
    rng = np.random.default_rng(seed)
    shape = (steps,) if width is None else (steps, width)
    observations, final = rng.standard_normal((2, *shape, 3)).astype(np.float32)
    terminated = rng.random(shape) < 0.1
    content: dict[str, Any] = {
        "observations": observations,
        "actions": (LOW + (HIGH - LOW) * rng.random((*shape, 2))).astype(np.float32),
        "rewards": rng.standard_normal(shape),
        "terminated": terminated,
        "truncated": (rng.random(shape) < 0.1) & ~terminated,
        "final_observations": final,
        "episode_id": seed,
    }
    return EpisodeData(**{**content, **changes})


def tanh_network(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


def small_agent(
    algorithm: str,
    hyperparams: dict[str, Any] | None = None,
    *,
    optimizer: Any = torch.optim.Adam,
    rate: float = 1e-3,
    dtype: torch.dtype = torch.float32,
    log_alpha: float = -0.5,
    spaces: SpaceSpec | None = LOPSIDED,
    **options: Any,
) -> Any:
    """An agent with networks of a user's own; the same weights each time."""
    torch.manual_seed(0)
    outputs = 4 if algorithm == "sac" else 2
    actor, *critics = (tanh_network(i, o).to(dtype) for i, o in ((3, outputs), (5, 1), (5, 1)))
    optimizers = [
        optimizer(actor.parameters(), lr=rate),
        optimizer([*critics[0].parameters(), *critics[1].parameters()], lr=rate),
    ]
    if algorithm == "sac":
        optimizers.append(optimizer([torch.tensor(log_alpha, requires_grad=True, dtype=dtype)], lr=rate))
    params = {**QUICK, **(hyperparams or {})}
    if optimizer is not torch.optim.Adam:
        params.pop("learning_rate")
    options = {"device": "cpu", "seed": 0, "spaces": spaces, **options}
    return AGENTS[algorithm](actor, *critics, 2, *optimizers, params, **options)


def same(first: Any, second: Any) -> None:
    """Both agents hold the same, to the bit, replay included."""
    for one, two in ((first.state(), second.state()), (first.replay_state(), second.replay_state())):
        assert one.arrays.keys() == two.arrays.keys()
        for name in one.arrays:
            np.testing.assert_array_equal(one.arrays[name], two.arrays[name], err_msg=name)
        assert one.metadata == two.metadata


def steps_of_both(pair: Any, steps: int, seed: int = 0, rows: int = 16, seen: Any = None) -> Any:
    """Gradient steps of an agent of TensorFlow and one of PyTorch from the same transitions and noise.

    ``seen`` are the observations before and after, ``[steps * rows, *obs_shape]`` each; by default vectors.
    Returns the statistics of both and the errors of both.
    """
    one, other = pair
    rng, n = np.random.default_rng(seed), steps * rows
    observations, following = rng.standard_normal((2, n, 3)).astype(np.float32) if seen is None else seen
    actions = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    columns = np.stack([rng.standard_normal(n), 0.97 * (rng.random(n) > 0.1), rng.uniform(0.2, 1, n)], axis=1)
    columns, noise = columns.astype(np.float32), rng.standard_normal((steps, 2, rows, 2)).astype(np.float32)
    params = one._hyperparams.params
    numbers = np.array(list(one._numbers(params).values()), np.float32)
    first = np.int32(other._memory.gradient_steps)
    graph = one._graph(observations)
    found, errors = graph(observations, following, actions, columns, noise, numbers, first)
    k = len(one.STATISTICS)
    means = dict(
        zip(one.STATISTICS, found.numpy()[:k] / np.maximum(found.numpy()[k : 2 * k], 1), strict=True)
    )

    other._gather()
    sums: dict[str, list[float]] = {}
    theirs = []
    for step in range(steps):
        part = slice(step * rows, (step + 1) * rows)
        rewards, discounts, weights = (torch.from_numpy(columns[part, c].copy()) for c in range(3))
        before, after = (torch.from_numpy(each[part]).float() for each in (observations, following))
        acted = torch.from_numpy(actions[part])
        batch = Minibatch(before, acted, rewards, after, discounts, weights, torch.from_numpy(noise[step]))
        report, missed = other._gradient_step(batch, other._hyperparams.params)
        other._memory.gradient_steps += 1
        theirs.append(missed.numpy())
        for name, value in report.items():
            sums.setdefault(name, []).append(float(value))
    return (
        means,
        {name: np.mean(values) for name, values in sums.items()},
        errors.numpy(),
        np.concatenate(theirs),
    )


def close(pair: Any, tolerance: float) -> None:
    """Both agents have the same networks."""
    ours, theirs = (agent.state().arrays for agent in pair)
    names = [name for name in ours if "optimizer" not in name]
    assert len(names) >= 20
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name], atol=tolerance, err_msg=name)
