"""The inline runner: the whole loop in one thread, on a list. What `RLOptimizer.run()` and most tests use.

The list is the order that the hub would have given if every node answered at once, so a run from a topology
has the same events here as in processes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.errors import NodeFailure, OptixError
from optix_bus.messages import (
    CutAnnounced,
    Event,
    RunFinished,
    RunStarted,
    StopRequested,
    TimerFired,
    TimerSet,
    VariantAdmitted,
    VariantDismissed,
)
from optix_bus.runtime.cuts import KEEP, CutFolder, take
from optix_bus.runtime.fold import BlobStore, Envelope, Fold
from optix_bus.runtime.local_store import LocalStore
from optix_bus.runtime.names import SUPERVISOR
from optix_bus.runtime.node import Node
from optix_bus.runtime.retirement import references
from optix_bus.types import BlobRef

Listener = Callable[[Envelope], None]
_SLICE_SECONDS = 0.1


class InlineRunner:
    """Runs nodes in one thread.

    Args:
        nodes: nodes by name; for one event they act in this order.
        seed: seed of the run; every random stream of a node derives from it.
        stores: blob store of each node, by name; by default one that keeps objects by reference.
        run_id: name of the run.
        listener: called with every event as it gets its number, before any node sees it.
        clock: for stamps and timers.
        started: the first event, when there is more to say than the seed.
        cuts: where the nodes' states go when the scheduler announces a cut; without it nobody takes one.
        persist: called at a cut with every blob that is announced and not yet handled.
        variants: builds the nodes of a variant, by its number, where variants have nodes of their own.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        *,
        seed: int = 0,
        stores: Callable[[str], BlobStore] | None = None,
        run_id: str = "inline",
        listener: Listener | None = None,
        clock: Clock | None = None,
        started: RunStarted | None = None,
        cuts: CutFolder | None = None,
        persist: Callable[[BlobRef], None] | None = None,
        variants: Callable[[int], Mapping[str, Node]] | None = None,
    ) -> None:
        local = LocalStore()
        self._make_store = stores if stores is not None else lambda _name: local
        self._seed = seed
        self._variants = variants
        self._stores: dict[str, BlobStore] = {}
        self._folds = self._made(nodes)
        self._opened: list[Fold] = []
        self._listener = listener
        self._clock = clock if clock is not None else SystemClock()
        self._cuts = cuts
        self._persist = persist
        self._queue: deque[tuple[str, int, int, Event]] = deque()
        self._timers: list[tuple[int, int, str, str]] = []
        self._roots: dict[str, int] = {}
        self._sequence = 0
        self._stamp_ns = 0
        self.finished: RunFinished | None = None
        self._started = started or RunStarted(run_id=run_id, seed=seed, nodes=tuple(nodes))

    def run(self) -> RunFinished:
        """Run to the end of the loop.

        A first interrupt (Ctrl-C, or the stop button of a notebook) stops the loop, which restores the best
        policy; a second one raises.

        Raises:
            OptixError: what a node raised, as it raised it if it is one of ours, else as `NodeFailure`.
        """
        try:
            self._open(self._folds)
            self._post_root(SUPERVISOR, self._started)
            interrupted = False
            while self.finished is None:
                try:
                    self._step()
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    self.stop("interrupted")
            return self.finished
        finally:
            self._teardown(self._opened)
            if self._cuts is not None:
                self._cuts.settle()

    def stop(self, reason: str = "stop requested") -> None:
        """Ask the loop to end; from a callback, a signal handler or another thread."""
        # A root may come at any moment: in front of what is queued, so that no further window is collected.
        index = self._next_root(SUPERVISOR)
        self._queue.appendleft((SUPERVISOR, 0, index, StopRequested(reason=reason)))

    def _post_root(self, source: str, event: Event) -> None:
        self._queue.append((source, 0, self._next_root(source), event))

    def _next_root(self, source: str) -> int:
        index = self._roots.get(source, -1) + 1
        self._roots[source] = index
        return index

    def _step(self) -> None:
        self._fire_timers()
        if not self._queue:
            raise NodeFailure(
                f"the loop has stalled after event {self._sequence}: no node has anything left to do"
            )
        node, cause, index, event = self._queue.popleft()
        self._sequence += 1
        self._stamp_ns = max(self._clock.now_ns(), self._stamp_ns + 1)
        if self._listener is not None:
            self._listener(Envelope(self._sequence, self._stamp_ns, node, cause, index, event))
        if isinstance(event, TimerSet):
            due = self._stamp_ns + int(event.seconds * 1e9)
            heapq.heappush(self._timers, (due, self._sequence, event.node, event.key))
        if isinstance(event, VariantAdmitted) and self._variants is not None:
            joining = self._made(self._variants(event.variant))
            self._folds += joining
            self._open(joining)
        sequence = self._sequence
        for fold in self._folds:
            if type(event) in fold.accepts:
                emitted = self._guard(fold, type(event).__name__, fold.apply, event, sequence, self._stamp_ns)
                self._queue.extend((fold.name, sequence, i, item) for i, item in enumerate(emitted))
        if isinstance(event, CutAnnounced) and self._cuts is not None:
            self._take_cut(event, self._cuts)
        self._retire(event)
        if isinstance(event, VariantDismissed):
            self._folds = [fold for fold in self._folds if fold.name not in event.nodes]
            self._teardown([fold for fold in self._opened if fold.name in event.nodes])
        if isinstance(event, RunFinished):
            self.finished = event

    def _made(self, nodes: Mapping[str, Node]) -> list[Fold]:
        self._stores.update({name: self._make_store(name) for name in nodes})
        return [Fold(name, node, seed=self._seed, store=self._stores[name]) for name, node in nodes.items()]

    def _open(self, folds: Iterable[Fold]) -> None:
        for fold in folds:
            self._opened.append(fold)
            self._guard(fold, "setup", fold.node.setup)

    def _take_cut(self, announced: CutAnnounced, cuts: CutFolder) -> None:
        if self._persist is not None:
            for *_, waiting in self._queue:
                for ref in references(waiting):
                    self._persist(ref)
        states = [take(fold.name, fold.node, announced) for fold in self._folds]
        cuts.write(states, self._sequence, announced.window)
        self._queue.extend((state.event.node, self._sequence, 0, state.event) for state in states)
        cuts.prune(announced.cut - KEEP + 1)

    def _fire_timers(self) -> None:
        if not self._timers:
            return
        while not self._queue and (left := (self._timers[0][0] - self._clock.now_ns()) / 1e9) > 0.0:
            self._clock.sleep(min(left, _SLICE_SECONDS))  # another thread may ask it to stop
        while self._timers and self._timers[0][0] <= self._clock.now_ns():
            _, _, node, key = heapq.heappop(self._timers)
            self._post_root(node, TimerFired(node=node, key=key))

    def _retire(self, event: Event) -> None:
        """Everybody has seen the event: nobody can ask for its blobs again."""
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if isinstance(value, BlobRef):
                self._stores[value.owner].retire(value.name)

    def _guard(
        self, fold: Fold, doing: str, function: Callable[..., list[Event] | None], *args: object
    ) -> list[Event]:
        try:
            return function(*args) or []
        except OptixError:
            raise
        except Exception as error:
            raise NodeFailure(
                f"node {fold.name!r} failed in {doing}: {type(error).__name__}: {error}"
            ) from error

    def _teardown(self, folds: Iterable[Fold]) -> None:
        """In the order opposite to that in which they were set up."""
        for fold in reversed(list(folds)):
            self._opened.remove(fold)
            try:
                fold.node.teardown()
            except Exception as error:  # one node's teardown must not keep the others from theirs
                fold.log.warning("teardown failed", error=f"{type(error).__name__}: {error}")
