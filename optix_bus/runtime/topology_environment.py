"""The ``environment`` section: it is made once and closed again, so that what is wrong shows before a run."""

from __future__ import annotations

from optix_bus.errors import ConfigurationError, OptixError
from optix_bus.runtime.problems import did_you_mean
from optix_bus.runtime.topology_settings import EnvironmentSettings
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.validation import Checker
from optix_bus.types import SpaceSpec


def check_environment(settings: EnvironmentSettings, tree: Tree, checker: Checker) -> SpaceSpec | None:
    """What the environment's observations and actions look like, or None with the reason in the checker."""
    import gymnasium

    from optix_bus.agents.spaces import space_spec

    place = tree.entries["id"].value.place
    try:
        environment = gymnasium.make(settings.id, **settings.kwargs)
    except gymnasium.error.NameNotFound:
        hint = did_you_mean(settings.id, gymnasium.registry)
        checker.add(place, f"there is no environment '{settings.id}'", hint, "environment.id")
        return None
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        checker.add(place, f"the environment '{settings.id}' cannot be made: {error}", path="environment.id")
        return None
    try:
        return space_spec(environment)
    except (OptixError, ConfigurationError) as error:
        checker.add(place, str(error), path="environment.id")
        return None
    finally:
        environment.close()
