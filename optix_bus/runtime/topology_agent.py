"""The ``agent`` section: an algorithm of the library or a class of the user's own, not built.

Cards are read, networks are not made: no framework is imported for an algorithm. A class of the user's own
is imported, because only so its name, its methods and its arguments can be checked.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from optix_bus.agents.cards import CARDS, card_for
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.problems import did_you_mean
from optix_bus.runtime.topology_classes import load_object
from optix_bus.runtime.topology_schedules import check_hyperparameters
from optix_bus.runtime.topology_settings import FRAMEWORKS, OF_ALGORITHM
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.validation import Checker
from optix_bus.types import SpaceSpec

SIX_METHODS = ("act", "learn", "get_hyperparams", "set_hyperparams", "save_weights", "load_weights")
#: Frameworks that go by two names.
_LONG_NAMES = {"tf": "tensorflow"}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_SPREAD_METHODS = ("state", "load_state", "policy", "reseed")


def check_agent(tree: Tree, spaces: SpaceSpec | None, checker: Checker) -> bool:
    """Check the agent against its card or its class, and against the spaces where they are known.

    Works on the tree, so that a mistake in one option does not hide those in the others.

    Returns:
        Whether pipelines and learner share one agent object by default: true for agents that can only be
        moved as a whole, because they have no more than the six methods.
    """
    algorithm, own_class = _text(tree, "algorithm"), _text(tree, "class")
    if (algorithm is None) == (own_class is None):
        found = "neither" if algorithm is None else "both"
        hint = f"write algorithm: {next(iter(CARDS))}, or class: my_module:MyAgent"
        checker.add(
            tree.place, f"the agent takes either 'algorithm' or 'class', found {found}", hint, "agent"
        )
        return False
    if algorithm is not None:
        _refuse_others(("arguments",), "class", tree, checker)
        _check_algorithm(algorithm, tree, spaces, checker)
        return False
    _refuse_others(OF_ALGORITHM, "algorithm", tree, checker)
    return _check_class(str(own_class), tree, checker)


def _text(tree: Tree, key: str) -> str | None:
    below = tree.get(key)
    return below.scalar if below is not None and isinstance(below.scalar, str) else None


def _refuse_others(keys: tuple[str, ...], belongs_to: str, tree: Tree, checker: Checker) -> None:
    for key in keys:
        if key in tree.entries:
            other = "class" if belongs_to == "algorithm" else "algorithm"
            message = f"'{key}' of the agent has no effect beside '{other}', only beside '{belongs_to}'"
            hint = "give it in 'arguments'" if belongs_to == "algorithm" else "remove it"
            checker.add(tree.entries[key].place, message, hint, f"agent.{key}")


def _check_algorithm(name: str, tree: Tree, spaces: SpaceSpec | None, checker: Checker) -> None:
    place = tree.entries["algorithm"].value.place
    if name not in CARDS:
        hint = did_you_mean(name, CARDS, "algorithms")
        checker.add(place, f"unknown algorithm '{name}'", hint, "agent.algorithm")
        return
    card = card_for(name, spaces)
    framework = _text(tree, "framework")
    if framework in FRAMEWORKS and _LONG_NAMES.get(framework, framework) not in card.frameworks:
        message = f"{name} does not exist for the framework '{framework}'"
        hint = did_you_mean(framework, card.frameworks, "it exists for")
        checker.add(tree.entries["framework"].value.place, message, hint, "agent.framework")
    device = _text(tree, "device")
    if device is not None and not _DEVICE.fullmatch(device):
        hint = did_you_mean(device, ("auto", "cpu", "cuda", "mps")) or "write auto, cpu, cuda, cuda:N or mps"
        checker.add(tree.entries["device"].value.place, f"unknown device '{device}'", hint, "agent.device")
    memory = _text(tree, "rnn")
    if memory is not None and memory not in card.memories:
        message = f"{name} has no memory of kind '{memory}'"
        hint = did_you_mean(memory, card.memories, "it has") if card.memories else "remove it: it has none"
        checker.add(tree.entries["rnn"].value.place, message, hint, "agent.rnn")
    below = tree.get("hyperparameters")
    if below is not None:
        check_hyperparameters(card, below, "agent.hyperparameters", checker)
    misfit = card.fits(spaces) if spaces is not None else None
    if misfit and spaces is not None:
        others = [other for other, its in CARDS.items() if its.fits(spaces) is None]
        hint = f"what fits: {', '.join(others)}" if others else ""
        checker.add(place, misfit, hint, "agent.algorithm")


def _check_class(class_path: str, tree: Tree, checker: Checker) -> bool:
    place = tree.entries["class"].value.place
    try:
        made = load_object(class_path)
    except ConfigurationError as error:
        checker.add(place, f"the agent: {error}", path="agent.class")
        return False
    if not callable(made):
        checker.add(
            place, f"'{class_path}' is no class and no function that makes an agent", "", "agent.class"
        )
        return False
    if isinstance(made, type):
        lacks = [name for name in SIX_METHODS if not callable(getattr(made, name, None))]
        if not lacks:
            lacks = sorted(getattr(made, "__abstractmethods__", ()))
        if lacks:
            message = f"'{class_path}' is no agent: it lacks {', '.join(lacks)}"
            checker.add(
                place, message, f"an agent has the six methods {', '.join(SIX_METHODS)}", "agent.class"
            )
    _check_arguments(made, class_path, tree, checker)
    # A function's agent is not known before it is made: keeping it in one process is right for every agent.
    return not (isinstance(made, type) and all(hasattr(made, name) for name in _SPREAD_METHODS))


def _check_arguments(made: Any, class_path: str, tree: Tree, checker: Checker) -> None:
    try:
        parameters = inspect.signature(made).parameters
    except (ValueError, TypeError):
        return  # written in C: what it takes shows when it is called
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    given = tree.get("arguments")
    entries = given.entries if given is not None else {}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, entry in entries.items():
        if key not in named and not takes_all:
            hint = did_you_mean(key, named, "it takes") or "it takes none"
            checker.add(
                entry.place, f"unknown argument '{key}' of {class_path}", hint, f"agent.arguments.{key}"
            )
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in entries:
            place = given.place if given is not None else tree.entries["class"].value.place
            message = f"{class_path} needs the argument '{name}'"
            checker.add(place, message, "add it below 'arguments'", f"agent.arguments.{name}")
