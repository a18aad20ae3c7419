"""Where a node is built: its place in the plan, and the makers of what it needs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.node import Node
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.randomness import stream


class PlanSite:
    """A `Site` over a plan. ``agents`` is shared by the sites of one process, so that nodes which share an
    agent get the same object."""

    def __init__(self, plan: RunPlan, node: NodePlan, agents: dict[int, Any]) -> None:
        self._plan = plan
        self._node = node
        self._agents = agents
        self.name = node.name
        self.role = node.role
        self.seed = plan.seed
        self.run_id = plan.run_id
        self.checkpoint_directory = str(plan.checkpoint_directory(Path(plan.run_directory)))
        self.has_validation = plan.has_validation
        self.has_optimizer = plan.has_optimizer
        self.has_evolution = plan.has_evolution
        self.lookahead = plan.lookahead
        self.variant = node.variant
        self.has_variant_nodes = bool(plan.variant_nodes)
        self.shares_agent = plan.shares_agent

    def agent(self) -> Any:
        """The agent of the topology, built once for all nodes that share this process; a variant has one of
        its own."""
        if self.variant not in self._agents:
            self._agents[self.variant] = self._make_agent()
        return self._agents[self.variant]

    def variant_nodes(self, variant: int) -> tuple[str, ...]:
        """Names of the nodes of a variant."""
        return tuple(node.name for node in self._plan.of_variant(variant))

    def _make_agent(self) -> Any:
        options = self._plan.agent
        if "class" in options:
            made = load(options["class"])(**options["arguments"])
            if hasattr(made, "reseed"):
                made.reseed(stream(self.seed, "agent", "initial"))
            return made
        from optix_bus.agents import make_agent, space_spec
        from optix_bus.pipelines import build_environment

        environment = build_environment(self._plan.environment["id"], self._plan.environment["kwargs"])
        try:
            spaces = space_spec(environment)
        finally:
            environment.close()
        return make_agent(
            spaces,
            framework=options["framework"],
            algorithm=options["algorithm"],
            hidden_sizes=options["hidden_sizes"],
            hyperparams=options["hyperparameters"],
            device=options["device"],
            seed=int(stream(self.seed, "agent", "initial").integers(2**31)),
            rnn=options.get("rnn"),
        )

    def pipeline(self, settings: Any) -> Any:
        """A pipeline of this node's role over the environment of the topology, with episodes of its own for
        each variant."""
        from optix_bus.pipelines import make_pipeline

        return make_pipeline(
            self._plan.environment["id"],
            self._plan.environment["kwargs"],
            settings,
            role=self.role,
            seed=int(stream(self.seed, self.name, "episodes").integers(2**62)) if self.variant else self.seed,
        )


def build_nodes(plan: RunPlan, process: str | None = None) -> dict[str, Node]:
    """The nodes of one process, or all of them, ready for `setup`, in the order in which they act."""
    agents: dict[int, Any] = {}
    chosen = plan.nodes if process is None else plan.of_process(process)
    nodes: dict[str, Node] = {}
    for entry in chosen:
        cls = load(entry.class_path)
        try:
            settings = msgspec.convert(entry.settings, cls.settings) if entry.settings else cls.settings()
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"settings of node {entry.name!r}: {error}") from error
        nodes[entry.name] = cls.build(settings, PlanSite(plan, entry, agents))
    return nodes


def load(path: str) -> Any:
    """What ``module:Name`` names; the topology was checked before, so a failure here is a changed module."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{path!r} cannot be imported: {error}") from error
