"""From a checked topology to the plan of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.messages import EvolutionDecided, HyperparametersProposed, PolicyUpdated
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.topology import Topology
from optix_bus.runtime.topology_entry import NodeEntry
from optix_bus.runtime.topology_nodes import HOLDS_AGENT
from optix_bus.runtime.topology_wiring import has_variant_nodes, waiting_for
from optix_bus.runtime.validation import as_options


def make_plan(
    topology: Topology, *, run_id: str, run_directory: Path, sockets: str = "", shared_memory: str = ""
) -> RunPlan:
    """The plan of a topology."""
    entries = topology.nodes
    # Where pipelines share the learner's agent, the validation episodes of a policy must be played before the
    # training window of the same policy, because the learner changes the agent right after that.
    ordered = sorted(entries, key=lambda entry: entry.role != "validation")
    lookahead = max((int(getattr(entry.settings, "lookahead", 0)) for entry in entries), default=0)
    if lookahead and topology.shares_agent:
        raise ConfigurationError(
            f"lookahead {lookahead} needs an agent whose policy travels (state, load_state and act_batch): "
            "one that pipelines and learner share cannot act and learn at the same time. Set lookahead: 0"
        )
    return RunPlan(
        run_id=run_id,
        name=topology.name,
        seed=topology.seed,
        digest=topology.digest,
        run_directory=str(run_directory),
        sockets=sockets,
        shared_memory=shared_memory,
        environment=as_options(topology.environment),
        agent=topology.agent.in_force(),
        run=as_options(topology.run),
        nodes=[
            NodePlan(
                name=entry.name,
                class_path=entry.class_path,
                settings=_within_budget(as_options(entry.settings), topology),
                role=entry.role,
                process=entry.process,
                restart=entry.restart,
                needed=bool(waiting_for(entry, entries)),
                holds_agent=_holds_agent(entry, topology.shares_agent),
            )
            for entry in ordered
        ],
        shares_agent=topology.shares_agent,
        has_validation=any(entry.role == "validation" for entry in entries),
        has_optimizer=any(HyperparametersProposed in entry.node_class().emits for entry in entries),
        lookahead=lookahead,
        has_evolution=any(EvolutionDecided in entry.node_class().emits for entry in entries),
        variant_nodes=_variant_nodes(ordered, topology) if has_variant_nodes(entries) else [],
        has_cuts=any(getattr(entry.settings, "cut_windows", 0) for entry in entries),
        search_path=list(topology.search_path),
    )


def _variant_nodes(entries: Sequence[NodeEntry], topology: Topology) -> list[NodePlan]:
    """What each variant has for itself: its own of every node that says which class does that."""
    return [
        NodePlan(
            name=entry.name,
            class_path=entry.node_class().for_variants,
            settings=as_options(entry.settings),
            role=entry.role,
            process="",
            restart=entry.restart,
            holds_agent=_holds_agent(entry, topology.shares_agent),
        )
        for entry in entries
        if entry.node_class().for_variants
    ]


def _holds_agent(entry: NodeEntry, shared: bool) -> bool:
    """Who learns has the agent itself; who only acts has it where it cannot travel."""
    emits = set(entry.node_class().emits)
    return PolicyUpdated in emits or (shared and bool(emits & HOLDS_AGENT))


def _within_budget(settings: dict[str, Any], topology: Topology) -> dict[str, Any]:
    """Blobs live until the cut behind the next: with few bytes to spend a cut must come in time."""
    if "cut_bytes" in settings:
        return {**settings, "cut_bytes": min(settings["cut_bytes"], topology.run.blob_budget_bytes // 4)}
    return settings
