"""Hyperparameters in a topology: each a value, or a mapping that says how it changes on the way."""

from __future__ import annotations

from optix_bus.agents.cards import Card
from optix_bus.rl.schedules import Schedule
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.validation import FAILED, Checker

SCHEDULE = (
    "A number that changes on the way, for example "
    "{schedule: linear, from: 3e-4, to: 0, over: 200000, clock: environment_steps}."
)


def check_hyperparameters(card: Card, tree: Tree, path: str, checker: Checker) -> None:
    """Check every hyperparameter against the card, with the place of each mistake."""
    known = card.defaults()
    scheduled = {
        name: entry.value
        for name, entry in tree.entries.items()
        if entry.value.kind == "mapping" and name in known and card.can_be_scheduled(name)
    }
    plain = {name: entry for name, entry in tree.entries.items() if name not in scheduled}
    values = Tree(tree.kind, tree.place, plain, tree.items, tree.scalar)
    checker.settings(card.hyperparameters, values, card.algorithm, path, word="hyperparameter")
    for name, value in scheduled.items():
        _check_schedule(card, name, value, f"{path}.{name}", checker)


def _check_schedule(card: Card, name: str, tree: Tree, path: str, checker: Checker) -> None:
    owner = f"the schedule of '{name}'"
    found = checker.settings(Schedule, tree, owner, path, word="key")
    wrong = None if found is FAILED else card.broken_end(name, found)
    if wrong:
        word, problem = wrong
        checker.add(tree.entries[word].value.place, f"'{word}' of {owner} is {problem}", "", f"{path}.{word}")
