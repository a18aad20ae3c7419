"""A node: a closed fold over events.

    class CounterNode(Node):
        emits = (Counted,)

        @handles(Tick)
        def on_tick(self, event: Tick, ctx: Context) -> None:
            self.count += 1
            ctx.emit(Counted(count=self.count))

Everything that can influence a node comes in as an event or a blob, and everything it does goes out as
events and blobs. The same inputs therefore give the same outputs, in every runner and in a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from optix_bus.errors import NodeFailure
from optix_bus.messages import Event
from optix_bus.types import BlobRef, EpisodeData, NamedArrays

Handler = Callable[[Any, Any, "Context"], None]
H = TypeVar("H", bound=Callable[..., None])


def handles(*types: type[Event]) -> Callable[[H], H]:
    """Marks a method as the handler of these event types."""

    def mark(function: H) -> H:
        function.__dict__["_handles"] = (*getattr(function, "_handles", ()), *types)
        return function

    return mark


class Log(Protocol):
    """Where a node's words go; never part of what it emits."""

    def debug(self, event: str, **details: Any) -> Any:
        """What helps to find a defect."""
        ...

    def info(self, event: str, **details: Any) -> Any:
        """What a person may want to know."""
        ...

    def warning(self, event: str, **details: Any) -> Any:
        """What a person should look at, though the run goes on."""
        ...


class Context(Protocol):
    """All that a handler may reach besides the event in hand."""

    @property
    def name(self) -> str:
        """The node's name in the topology."""
        ...

    @property
    def sequence(self) -> int:
        """Sequence number of the event in hand. For messages to people only: it differs between runs."""
        ...

    @property
    def now(self) -> float:
        """Seconds since the epoch at which the hub stamped the event in hand; the only clock of a node."""
        ...

    @property
    def log(self) -> Log:
        """For words to people; a replay does not compare them."""
        ...

    def emit(self, event: Event) -> None:
        """Send an event. It leaves when the handler returns; a handler that raises has sent nothing."""
        ...

    def write_blob(self, kind: str, number: int, content: NamedArrays | EpisodeData) -> BlobRef:
        """Store arrays beside the events, as ``NODE/KIND-NUMBER``; waits while the budget is spent."""
        ...

    def read_blob(self, ref: BlobRef) -> Any:
        """The arrays behind a reference, read-only. Valid while the event that announced it is in hand;
        what is kept longer stays readable, because it is mapped or held in memory."""
        ...

    def rng(self, *key: int | str) -> Any:
        """A ``numpy.random.Generator`` derived from (seed of the run, node, key). The key is the node's own
        count (a window, an episode), so that it does not depend on how messages interleave."""
        ...

    def timer(self, key: str, seconds: float) -> None:
        """Ask for `TimerFired` with this key, ``seconds`` after now."""
        ...


class Site(Protocol):
    """Where a node is built: its place in the topology, and the makers of what it needs."""

    @property
    def name(self) -> str:
        """The node's name in the topology."""
        ...

    @property
    def role(self) -> str:
        """``train``, ``validation``, or empty for nodes without roles."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the run."""
        ...

    @property
    def run_id(self) -> str:
        """Name of the run, written into what outlives it."""
        ...

    @property
    def checkpoint_directory(self) -> str:
        """Where the snapshots of the run go."""
        ...

    @property
    def has_validation(self) -> bool:
        """Whether some node of the topology has the validation role."""
        ...

    @property
    def has_optimizer(self) -> bool:
        """Whether some node of the topology proposes hyperparameters."""
        ...

    @property
    def has_evolution(self) -> bool:
        """Whether some node of the topology decides what happens at a plateau."""
        ...

    @property
    def variant(self) -> int:
        """The variant that the node belongs to; 0 for the nodes of the topology."""
        ...

    @property
    def has_variant_nodes(self) -> bool:
        """Whether variants are trained by nodes of their own."""
        ...

    def variant_nodes(self, variant: int) -> tuple[str, ...]:
        """Names of the nodes of a variant."""
        ...

    @property
    def lookahead(self) -> int:
        """How many windows may be collected ahead of learning."""
        ...

    @property
    def shares_agent(self) -> bool:
        """Whether pipelines and learner of this topology use one agent object."""
        ...

    def agent(self) -> Any:
        """The agent of the topology, built once in each process."""
        ...

    def pipeline(self, settings: Any) -> Any:
        """A pipeline of this node's role over the topology's environment."""
        ...


class NoSettings:
    """For nodes without settings of their own."""


class Node:
    """Base of all nodes. Subclasses declare what they emit and mark their handlers.

    ``setup`` and ``teardown`` run in the process of the node, before its first and after its last event; a
    node that raises in ``setup`` or in a handler is lost, and the run ends with its error unless the
    supervisor restarts it.
    """

    emits: ClassVar[tuple[type[Event], ...]] = ()
    roles: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[type] = NoSettings
    #: Event types that this node waits for only where somebody emits them.
    optional: ClassVar[tuple[type[Event], ...]] = ()
    #: Event types that this node only takes note of: they do not wake its process, but are handled, in order,
    #: before the next one that does (or a tenth of a second later).
    noted: ClassVar[tuple[type[Event], ...]] = ()
    #: Settings that have an effect in one role only.
    only_in_role: ClassVar[dict[str, str]] = {}
    #: Whether several nodes of this class with the same role make sense.
    replicable: ClassVar[bool] = False
    #: The class, as ``module:Name``, that does for a variant with nodes of its own what this one does for the
    #: topology; empty where variants do without.
    for_variants: ClassVar[str] = ""
    #: The variant that this node belongs to; 0 for the nodes of a topology.
    variant: int = 0
    _handlers: ClassVar[dict[type[Event], str]] = {}

    def __init_subclass__(cls, *, inherits_handlers: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        handlers = dict(cls._handlers) if inherits_handlers else {}
        for name, member in list(vars(cls).items()):
            for event_type in getattr(member, "_handles", ()):
                handlers[event_type] = name
        cls._handlers = handlers

    @classmethod
    def accepts(cls) -> tuple[type[Event], ...]:
        """The event types that this node handles."""
        return tuple(cls._handlers)

    @classmethod
    def build(cls, settings: Any, site: Site) -> Node:
        """The node as a topology asks for it. The default suits nodes whose only argument is settings."""
        return cls(settings)  # type: ignore[call-arg]

    def setup(self) -> None:
        """Open what the node needs."""

    def teardown(self) -> None:
        """Close it; also called after a failure."""

    @property
    def repeats(self) -> bool:
        """Whether the same events give the same outputs again after `load_state`.

        False where something outside the fold cannot be brought back: an environment that cannot be rebuilt,
        an agent that keeps more than its weights. Such a node is given `repeat` instead of its handlers for
        what the journal says it has answered.
        """
        return True

    def repeat(self, event: Event, ctx: Context, recorded: Sequence[Event]) -> None:
        """Take in an event that an earlier life has answered with ``recorded``; what is emitted here is
        dropped.

        Called only where `repeats` is False.
        """
        self.handle(event, ctx)

    def branch(self, number: int) -> None:
        """Take another future than the recorded one: same past, other chance. Called after `load_state`.

        ``ctx.rng`` gives other streams by itself; this is for counters that choose episodes.
        """

    def state(self) -> NamedArrays:
        """Everything this node would need to go on from here; written at a cut.

        No stamps and no sequence numbers: the same seed gives the same bytes in every run. Metadata must be
        what JSON can say.
        """
        return NamedArrays({})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        """Take back what `state` gave; called after `setup`, before the first event.

        Returns:
            What a person should know, for example an episode that could not be taken up again.
        """
        return ()

    def handle(self, event: Event, ctx: Context) -> None:
        """Dispatch one event to its handler."""
        name = self._handlers.get(type(event))
        if name is None:
            raise NodeFailure(f"{type(self).__name__} does not handle {type(event).__name__}")
        getattr(self, name)(event, ctx)
