"""What every process of a run is told: the checked topology as plain data.

A process loads only the classes of its own nodes from it. Reading the topology file again would import those
of all nodes, and a scheduler would hold an environment library it never uses.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.restarts import Policy

#: Processes of variants, and their nodes, are called after the variant.
VARIANT = "variant-"
_OF_VARIANT = re.compile(rf"{VARIANT}([1-9][0-9]*)(?:-|$)")
_CHECKPOINT = "nodes.checkpoint:CheckpointNode"


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One node.

    Attributes:
        restart: what happens when it dies, see `restarts`.
        needed: whether others wait for what it emits.
        holds_agent: whether it acts or learns with the agent itself, so that its process needs whatever the
            agent is written in.
    """

    name: str
    class_path: str
    settings: dict[str, Any]
    role: str
    process: str
    restart: Policy = "transient"
    needed: bool = True
    holds_agent: bool = False
    #: The variant that it belongs to; 0 for the nodes of the topology.
    variant: int = 0


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What held up to an event of a forked run: the nodes handle it under ``plan``, a file beside this
    one."""

    sequence: int
    plan: str


def variant_number(name: str) -> int:
    """The variant that a node or a process of this name belongs to; 0 for those of the topology."""
    found = _OF_VARIANT.match(name)
    return int(found[1]) if found is not None else 0


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A run. ``sockets`` and ``shared_memory`` are folders; both empty for the inline runner.

    ``branch`` is which of several futures of a fork it is (0: the recorded one), ``past`` what held before
    it. ``variant_nodes`` are the nodes that each variant has for itself, under the names of those of the
    topology whose work they do; which variants there are at an event is in the journal alone.
    """

    run_id: str
    name: str
    seed: int
    digest: str
    run_directory: str
    sockets: str = ""
    shared_memory: str = ""
    environment: dict[str, Any]
    agent: dict[str, Any]
    run: dict[str, Any]
    nodes: list[NodePlan]
    variant_nodes: list[NodePlan] = []
    shares_agent: bool
    has_validation: bool
    has_optimizer: bool
    lookahead: int
    has_cuts: bool = False
    has_evolution: bool = False
    branch: int = 0
    past: Past | None = None
    search_path: list[str]

    def of_process(self, process: str) -> list[NodePlan]:
        """The nodes of one process, in the order in which they act on the same event."""
        variant = variant_number(process)
        if variant and self.variant_nodes:
            return self.of_variant(variant)
        return [node for node in self.nodes if node.process == process]

    def of_variant(self, variant: int) -> list[NodePlan]:
        """The nodes of one variant, which live in one process."""
        process = f"{VARIANT}{variant}"
        return [
            msgspec.structs.replace(node, name=f"{process}-{node.name}", process=process, variant=variant)
            for node in self.variant_nodes
        ]

    def named(self, names: Iterable[str]) -> list[NodePlan]:
        """The nodes of these names, in the order in which they act; also those of variants."""
        chosen = set(names)
        variants = sorted({variant_number(name) for name in chosen} - {0})
        everybody = [*self.nodes, *(node for number in variants for node in self.of_variant(number))]
        return [node for node in everybody if node.name in chosen]

    def holds_agent(self, process: str) -> bool:
        """Whether some node of the process holds the agent."""
        return any(node.holds_agent for node in self.of_process(process))

    def checkpoint_directory(self, root: Path) -> Path:
        """Where the snapshots are: the checkpoint node's ``directory``, or a folder of the run directory.

        ``root`` is where that lies now: people move runs.
        """
        named = (node.settings.get("directory") for node in self.nodes if node.class_path == _CHECKPOINT)
        return Path(next(filter(None, named), None) or root / "checkpoints")

    @property
    def lasting(self) -> list[str]:
        """Names of the nodes that a run is never without: a cut is complete when all these have taken it."""
        return [node.name for node in self.nodes if node.restart != "temporary"]

    @property
    def keeper(self) -> str:
        """The process that keeps the cuts of the run: that of the first node that is always there."""
        return next((node.process for node in self.nodes if node.name in self.lasting), "")

    @property
    def processes(self) -> list[str]:
        """Names of the processes, in the order of the topology."""
        return list(dict.fromkeys(node.process for node in self.nodes))

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    def as_of(self, sequence: int) -> RunPlan:
        """The plan under which events behind this one are handled."""
        if self.past is None or sequence >= self.past.sequence:
            return self
        return self._before(self.past).as_of(sequence)

    @property
    def boundaries(self) -> frozenset[int]:
        """Events behind which another plan holds."""
        if self.past is None:
            return frozenset()
        return self._before(self.past).boundaries | {self.past.sequence}

    def _before(self, past: Past) -> RunPlan:
        return msgspec.structs.replace(
            RunPlan.read(Path(self.run_directory) / past.plan),
            run_id=self.run_id,
            run_directory=self.run_directory,
            sockets=self.sockets,
            shared_memory=self.shared_memory,
            run=self.run,
        )

    @classmethod
    def read(cls, path: Path) -> RunPlan:
        """Read what `write` wrote; makes the modules beside the topology importable."""
        try:
            plan = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(f"cannot read the plan of the run, {path}: {error}") from error
        sys.path.extend(place for place in plan.search_path if place not in sys.path)
        return plan
