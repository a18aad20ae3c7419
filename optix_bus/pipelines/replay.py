"""Taking up open episodes again: each is reset with its own seed and stepped with its recorded actions."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines.collector import Collector
from optix_bus.pipelines.ledger import OpenEpisode

Array = np.ndarray[Any, Any]


def open_episodes(collector: Collector) -> dict[str, Any]:
    """Open episodes as numbers and arrays, as of a window boundary."""
    rows = collector.ledger.rows
    gate = collector.gate.layout
    nothing = np.empty((0, *gate.shape), gate.dtype)
    remembered = {} if collector.memory is None else {"memory": collector.memory.copy()}
    return {
        "running": collector.running,
        "next_episode": collector.ledger.next_number,
        "episodes": [-1 if episode is None else episode.number for episode in rows],
        "steps": [0 if episode is None else episode.steps for episode in rows],
        "returns": [0.0 if episode is None else episode.total for episode in rows],
        "actions": [
            np.concatenate([nothing, *(episode.actions if episode is not None else [])]) for episode in rows
        ],
        "observations": collector.observations.copy(),
        "starts": collector.starts.tolist(),
        "waiting": list(collector.waiting),
        **remembered,
    }


def rebuild_episodes(collector: Collector, saved: dict[str, Any]) -> list[int]:
    """Bring the environments to where the episodes were saved; numbers of those that could not be.

    The check is the last observation: what replays to another one is given up.
    """
    stepper, ledger = collector.stepper, collector.ledger
    if len(saved["episodes"]) != stepper.n:
        raise ConfigurationError(
            f"progress of {len(saved['episodes'])} environments cannot be rebuilt with {stepper.n}: "
            "build the pipeline with as many as before"
        )
    ledger.abandon()
    ledger.next_number = int(saved["next_episode"])
    collector.running = bool(saved["running"])
    collector.waiting, collector.restarting = [], []
    collector.memory = np.asarray(saved["memory"]) if "memory" in saved else None
    numbers = [int(number) for number in saved["episodes"]]
    if not collector.running:
        return []
    if not collector.keeps_actions:
        collector.running = False
        return [number for number in numbers if number >= 0]
    actions = [np.asarray(taken) for taken in saved["actions"]]
    whole = [
        row for row, number in enumerate(numbers) if number >= 0 and len(actions[row]) == saved["steps"][row]
    ]
    now, lost = _replay(collector, numbers, actions, whole)
    wanted = np.asarray(saved["observations"])
    kept = [row for row in whole if row not in lost and np.array_equal(now[row], wanted[row])]
    for row in kept:
        taken = [actions[row]] if len(actions[row]) else []
        ledger.rows[row] = OpenEpisode(numbers[row], len(actions[row]), float(saved["returns"][row]), taken)
    collector.observations = wanted.astype(now.dtype)
    collector.waiting = [row for row in range(stepper.n) if row not in kept]
    collector.starts = np.asarray(saved["starts"], bool)
    collector.starts[collector.waiting] = False
    return [numbers[row] for row in range(stepper.n) if numbers[row] >= 0 and row not in kept]


def _replay(
    collector: Collector, numbers: list[int], actions: list[Array], whole: list[int]
) -> tuple[Array, set[int]]:
    """Step the recorded actions so that all rows arrive together; the last observations, and rows that ended
    where they had not before.

    Arriving together matters where every step moves all rows: a row that has few actions begins late, and
    until then its environment plays something that nobody looks at.
    """
    stepper = collector.stepper
    now = np.zeros_like(collector.observations)
    longest = max((len(actions[row]) for row in whole), default=0)
    # Idle environments take an action that the space is known to hold.
    spares = [actions[row][0] for row in whole if len(actions[row])]
    lost: set[int] = set()
    moving = list(range(stepper.n)) if stepper.steps_all else []
    seeds = [collector.seed_of(max(number, 0)) for number in numbers]
    if moving:
        stepper.reset(moving, seeds, now)
    for step in range(longest + 1):
        due = [row for row in whole if longest - len(actions[row]) == step]
        if due:
            stepper.reset(due, [seeds[row] for row in due], now)
        if step == longest:
            break
        under_way = [row for row in whole if longest - len(actions[row]) <= step and row not in lost]
        rows = moving or under_way
        sent = np.stack(spares[:1] * stepper.n)
        for row in under_way:
            sent[row] = actions[row][step - (longest - len(actions[row]))]
        ended = _step(collector, sent, now, rows)
        lost |= set(ended) & set(under_way)
        if moving and ended:
            stepper.reset(ended, [seeds[row] for row in ended], now)
    return now, lost


def _step(collector: Collector, sent: Array, now: Array, rows: list[int]) -> list[int]:
    count = collector.stepper.n
    flags = np.zeros((2, count), bool)
    ended, _, _ = collector.stepper.step(sent, now, np.zeros(count), flags[0], flags[1], rows)
    return ended
