"""Classes named in a topology as ``module:Name``, and what to say when there is no such class.

A topology file is code: naming a class in it imports that class's module. Nothing else ever turns a text
into a class; no path from the network comes here.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError, OptixError
from optix_bus.runtime.node import Node
from optix_bus.runtime.problems import did_you_mean

NODES = "nodes"


def add_search_path(folder: Path) -> None:
    """Let modules beside a topology, and in the working directory, be imported.

    They go to the end of the search path, so that no file there can take the place of an installed package.
    """
    for place in (str(folder.resolve()), str(Path.cwd())):
        if place not in sys.path:
            sys.path.append(place)


def load_object(path: str) -> Any:
    """What ``module:Name`` names.

    Raises:
        ConfigurationError: with a suggestion; also when the module itself cannot be imported.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(
            f"found '{path}', expected module:Name, for example nodes.learner:LearnerNode"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            hint = did_you_mean(module_name, [*_node_modules(), *_neighbours()])
            raise ConfigurationError(
                f"there is no module '{module_name}'" + (f"; {hint}" if hint else "")
            ) from error
        raise ConfigurationError(f"importing '{module_name}' failed: it needs '{missing}'") from error
    except OptixError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"importing '{module_name}' failed: {said}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [key for key, value in vars(module).items() if isinstance(value, type)]
            hint = did_you_mean(name, names)
            raise ConfigurationError(f"'{module_name}' has no '{name}'" + (f"; {hint}" if hint else ""))
        found = getattr(found, part)
    return found


def load_node_class(path: str) -> type[Node]:
    """The node class that ``module:Name`` names.

    Raises:
        ConfigurationError: there is none, or it is no node.
    """
    found = load_object(path)
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise ConfigurationError(
            f"'{path}' is no node: a node class derives from optix_bus.runtime.node.Node"
        )
    return found


@cache
def known_node_classes() -> dict[str, type[Node]]:
    """Every node class of the package ``nodes`` by its path, except where an extra is missing."""
    classes: dict[str, type[Node]] = {}
    for module_name in _node_modules():
        try:
            module = importlib.import_module(module_name)
        except (ImportError, OptixError):
            continue
        for name, found in vars(module).items():
            own = isinstance(found, type) and issubclass(found, Node) and found.__module__ == module_name
            if own and not name.startswith("_"):
                classes[f"{module_name}:{name}"] = found
    return classes


def _node_modules() -> list[str]:
    package = importlib.util.find_spec(NODES)
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    return [f"{NODES}.{info.name}" for info in pkgutil.iter_modules(folders)]


def _neighbours() -> list[str]:
    """Modules in the working directory, for the names of users' own nodes and agents."""
    return [path.stem for path in Path.cwd().glob("*.py")]
