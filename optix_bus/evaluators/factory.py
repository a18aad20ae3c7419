"""The evaluator that a topology asks for."""

from __future__ import annotations

import importlib

from optix_bus.errors import ConfigurationError
from optix_bus.evaluators.returns import ReturnEvaluator
from optix_bus.evaluators.settings import EvaluatorSettings
from optix_bus.interfaces import BaseEvaluator


def make_evaluator(settings: EvaluatorSettings | None = None) -> BaseEvaluator:
    """The evaluator of these settings; `ReturnEvaluator` unless they name another.

    Raises:
        ConfigurationError: the named class cannot be imported, cannot be built, or is no evaluator.
    """
    path = settings.evaluator if settings is not None else None
    if path is None:
        return ReturnEvaluator()
    module, colon, name = path.partition(":")
    if not colon:
        raise ConfigurationError(f"found evaluator {path!r}, expected module:Class")
    try:
        made = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"evaluator {path!r} cannot be built: {error}") from error
    if not isinstance(made, BaseEvaluator):
        raise ConfigurationError(
            f"found evaluator {path!r} of type {type(made).__name__}, expected a subclass of BaseEvaluator"
        )
    return made
