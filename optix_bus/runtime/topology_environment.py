"""The ``environment`` section: it is made once and closed again, so that what is wrong shows before a run."""

from __future__ import annotations

from optix_bus.errors import ConfigurationError, MissingExtra
from optix_bus.runtime.problems import did_you_mean
from optix_bus.runtime.topology_settings import EnvironmentSettings
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.validation import Checker
from optix_bus.types import SpaceSpec


def check_environment(
    settings: EnvironmentSettings, tree: Tree, checker: Checker, *, need_spaces: bool
) -> SpaceSpec | None:
    """Whether the environment exists and can be made; what is wrong goes to the checker.

    Args:
        settings: the section, checked.
        tree: the section with its places.
        checker: collects the problems.
        need_spaces: whether the agent is built from the spaces; spaces of a kind that the library does not
            know are then a problem, and otherwise the business of the user's own agent.

    Returns:
        What observations and actions look like, where it is needed and known.
    """
    import gymnasium

    from optix_bus.pipelines import environments

    place = tree.entries["id"].value.place
    try:
        environments.check_environment(settings.id)
    except MissingExtra as error:
        checker.add(place, str(error), path="environment.id")
        return None
    except ConfigurationError as error:
        hint = did_you_mean(settings.id, gymnasium.registry)
        message = f"there is no environment '{settings.id}'"
        if ":" in settings.id and error.__cause__ is not None:
            message, hint = f"{message}: {error.__cause__}", ""
        checker.add(place, message, hint, "environment.id")
        return None
    try:
        made = environments.build_environment(settings.id, settings.kwargs)
    except ConfigurationError as error:
        given = tree.entries.get("kwargs")
        if isinstance(error.__cause__, TypeError) and given is not None:
            place = given.value.place
        checker.add(place, str(error), path="environment.id")
        return None
    try:
        return _spaces(made, tree, checker) if need_spaces else None
    finally:
        made.close()


def _spaces(environment: object, tree: Tree, checker: Checker) -> SpaceSpec | None:
    from optix_bus.agents.spaces import space_spec

    try:
        return space_spec(environment)
    except ConfigurationError as error:
        checker.add(tree.entries["id"].value.place, str(error), path="environment.id")
        return None
