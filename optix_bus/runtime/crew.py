"""The processes of a run: started, watched, brought back when they die, ended.

`turn` never waits: a process that hangs while it starts, or one that is to come back later, keeps nobody from
looking after the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optix_bus.errors import NodeFailure
from optix_bus.messages import Event, NodeLost, NodeReady
from optix_bus.runtime.adoption import Orphans
from optix_bus.runtime.births import Births
from optix_bus.runtime.children import Child
from optix_bus.runtime.names import HUB, NURSERY
from optix_bus.runtime.plan import VARIANT, RunPlan
from optix_bus.runtime.restarts import Again, GiveUp, Policy, Restarts, strictest
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from optix_bus.runtime.topology_settings import RunSettings
from optix_bus.runtime.watched import ENDED, LOST, READY, STARTING, WAITING, Watched

#: The hub repeats itself ten times a second. While it is quiet nobody else can be heard.
_QUIET_SECONDS = 1.0


class Lost(NodeFailure):
    """A process is gone and does not come back: the run ends."""

    def __init__(self, process: str, line: str, exit_code: int, child: Child | None) -> None:
        super().__init__(line)
        self.process = process
        self.exit_code = exit_code
        self.log_lines = child.last_lines() if child is not None else []


class Crew:
    """All processes of a run.

    Args:
        plan: of the run; it is on disk already.
        run: its directory.
        limits: deadlines, and how often to try again.
        records: filled and kept true, for `run.json`.
        adopting: whether orphans become children of this process, which a nursery needs.
        lives: the newest incarnation of each node that the journal already knows.
        tell: takes the supervisor's events.
        say: takes lines for people.
        changed: called when a record has changed.
    """

    def __init__(
        self,
        plan: RunPlan,
        run: RunDirectory,
        limits: RunSettings,
        records: list[ProcessRecord],
        *,
        adopting: bool,
        lives: Mapping[str, int],
        tell: Callable[[Event], None],
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._run = run
        self._records = records
        self._limits = limits
        self._lives = lives
        self._tell = tell
        self._say = say
        self._changed = changed
        self._orphans = Orphans()
        self._boot = ""
        self._hub_was_quiet = False
        self._last_turn = time.monotonic()
        self._all: dict[str, Watched] = {}
        #: What processes said that could not go on exactly where they stood, in the order of their words.
        self.remarks: list[str] = []
        self._births = Births(run, self._all, changed)
        warm = [name for name in plan.processes if plan.holds_agent(name)] if adopting else []
        if warm and sys.platform == "linux":
            self._add(NURSERY, [], "permanent", beats=False)
        self._add(HUB, [HUB], "permanent")
        # The agent's process has a framework to load: the others start in the shadow of that.
        for name in sorted(plan.processes, key=lambda process: not plan.holds_agent(process)):
            nodes = plan.of_process(name)
            policy = strictest(node.restart for node in nodes)
            needed = any(node.needed for node in nodes)
            self._add(name, [node.name for node in nodes], policy, warm=name in warm, needed=needed)
        self._warm_births = NURSERY in self._all
        in_order = sorted(self._all.values(), key=lambda watched: watched.name == NURSERY)
        records.extend(watched.record for watched in in_order)

    def _add(
        self,
        name: str,
        nodes: list[str],
        policy: Policy,
        *,
        beats: bool = True,
        warm: bool = False,
        needed: bool = True,
    ) -> None:
        restarts = Restarts(policy, self._limits.restarts, self._limits.restart_seconds, needed=needed)
        incarnation = 1 + max((self._lives.get(node, 0) for node in nodes), default=0)
        record = ProcessRecord(name, 0, 0.0, STARTING, 0, incarnation, nodes)
        self._all[name] = Watched(record, restarts, beats, warm)

    def admit(self, variant: int, *, leaves: int = 0) -> Watched:
        """A variant has nodes in the run from now on; they live in a process of their own.

        ``leaves`` is the event of its dismissal, where that is in the journal already.
        """
        name = f"{VARIANT}{variant}"
        if name not in self._all:
            nodes = self._plan.of_variant(variant)
            policy = strictest(node.restart for node in nodes)
            self._add(name, [node.name for node in nodes], policy, warm=self._warm_births)
            self._records.append(self._all[name].record)
        self._all[name].leaves = leaves
        return self._all[name]

    def join(self, variant: int) -> None:
        """As `admit`, in a run that goes on: the process is started at once."""
        watched = self.admit(variant)
        if watched.child is None and watched.record.state == STARTING:
            self._say(f"{watched.name} joins with {len(watched.record.nodes)} nodes of its own")
            self._launch(watched)
            self._changed()

    def dismiss(self, variant: int, sequence: int) -> None:
        """The nodes of a variant belong to the run no longer behind this event: their process ends, in order,
        as soon as it has handled that."""
        watched = self._all.get(f"{VARIANT}{variant}")
        if watched is not None:
            watched.leaves = sequence

    def start(self) -> None:
        """Start all of them."""
        for watched in self._all.values():
            self._launch(watched)

    @property
    def is_ready(self) -> bool:
        """Whether every node listens, or does without."""
        return all(w.record.state in (READY, LOST, ENDED) for w in self._all.values() if w.record.nodes)

    @property
    def hub_is_there(self) -> bool:
        """Whether the hub has been heard in its present life."""
        return self._all[HUB].record.state == READY

    @property
    def states(self) -> dict[str, str]:
        """The state of every process with nodes, by name."""
        return {name: w.record.state for name, w in self._all.items() if w.record.nodes}

    # -- what is heard ---------------------------------------------------------------------------------------

    def hear(self, body: Mapping[str, Any]) -> None:
        """A heartbeat; those of earlier lives do not count."""
        watched = self._all.get(str(body.get("process")))
        if watched is None or watched.child is None or body.get("pid") != watched.child.pid:
            return
        before = watched.record.state
        if watched.hear(body, time.monotonic()):
            self._ready(watched)
        elif watched.record.state != before:
            self._changed()

    def hear_hub(self, boot: str, head: int) -> None:
        """The hub has spoken; each of its lives has another boot."""
        hub = self._all[HUB]
        if boot == self._boot and hub.record.state != READY:
            return  # the last words of the life before
        self._boot = boot
        hub.heard = time.monotonic()
        hub.handled = max(hub.handled, head)
        if hub.record.state == STARTING:
            hub.record.state = READY
            self._ready(hub)

    def _ready(self, watched: Watched) -> None:
        record = watched.record
        for node in record.nodes:
            self._tell(
                NodeReady(node=node, pid=record.pid, incarnation=record.incarnation, remarks=watched.remarks)
            )
        if record.restarts:
            again = f"restart {watched.count} of {self._limits.restarts}"
            self._say(f"{watched.name} came back ({again}, {_brief(watched.cause)})")
        for remark in watched.remarks:
            # What a node says of itself bears its name already.
            named = remark.startswith(tuple(f"{node}: " for node in record.nodes))
            self.remarks.append(remark if named else f"{watched.name}: {remark}")
            self._say(self.remarks[-1])
        self._changed()

    # -- one turn --------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Look after everybody once.

        Raises:
            Lost: a process is dead, and the run cannot or shall not go on.
        """
        now = time.monotonic()
        self._orphans.reap()
        self._births.attend(now)
        judge = self._may_judge_silence(now)
        for watched in self._all.values():
            if watched.record.state == WAITING and now >= watched.due:
                self._launch(watched)
            elif watched.child is None:
                self._births.hurry(watched, now)
            elif (code := watched.child.exit_code) is not None:
                self._bury(watched, watched.child, code, now)
            elif watched.may_leave:
                self._let_go(watched, watched.child, now)
            elif not watched.verdict:
                judged = judge or watched.name == HUB
                watched.verdict = watched.overdue(now, self._limits, judge_silence=judged)
                if watched.verdict:
                    watched.child.kill()

    def _may_judge_silence(self, now: float) -> bool:
        """Heartbeats come by way of the hub, and to a supervisor that is awake. After a pause of either
        everybody gets the whole time again to say something."""
        slept, self._last_turn = now - self._last_turn > _QUIET_SECONDS, now
        hub = self._all[HUB]
        if slept:
            hub.heard = now
        if hub.record.state != READY or now - hub.heard > _QUIET_SECONDS:
            self._hub_was_quiet = True
            return False
        if self._hub_was_quiet or slept:
            self._hub_was_quiet = False
            for watched in self._all.values():
                watched.heard = now if watched.heard else 0.0
        return True

    def _bury(self, watched: Watched, child: Child, code: int, now: float) -> None:
        """A life is over: what it left goes, and its history decides how it goes on."""
        self._births.is_over(child, now)
        watched.child = None
        self._orphans.end({child.pid})
        if watched.may_leave:
            watched.record.state = ENDED
            self._changed()
            return
        failure = self._run.failure(watched.name)
        if failure.get("pid") != child.pid:
            failure = {}  # of an earlier life
        death = watched.death(code, failure)
        watched.cause = watched.record.reason = death.cause
        decision = watched.restarts.after(death, now)
        watched.record.state = WAITING if isinstance(decision, Again) else LOST
        for node in watched.record.nodes:
            self._tell(
                NodeLost(
                    node=node,
                    pid=child.pid,
                    incarnation=watched.record.incarnation,
                    reason=death.cause,
                    final=not isinstance(decision, Again),
                )
            )
        if isinstance(decision, Again):
            watched.count, watched.due = decision.count, now + decision.delay_seconds
            watched.record.restarts += 1
            watched.record.incarnation += 1
            pause = f" in {decision.delay_seconds:g} s" if decision.delay_seconds else ""
            self._say(f"{watched.name} died ({_brief(death.cause)}); it is started again{pause}")
            if not pause:
                self._launch(watched)
        elif isinstance(decision, GiveUp) and watched.name != NURSERY:
            names = [death.node] if death.node in watched.record.nodes else watched.record.nodes
            who = ", ".join(repr(node) for node in names)
            line = f"node {who} (pid {child.pid}) {decision.reason}"
            raise Lost(watched.name, line, int(failure.get("exit_code") or Lost.exit_code), child)
        else:
            self._say(f"{watched.name} is gone ({_brief(death.cause)}); the run goes on without it")
        self._changed()

    def _let_go(self, watched: Watched, child: Child, now: float) -> None:
        """Ask a process for its orderly end, in which its nodes are torn down; what hangs there is killed."""
        if not watched.killed:
            watched.killed = now + self._limits.stop_seconds
            self._say(f"{watched.name} ends: its variant is no longer in the ensemble")
            child.terminate()
        elif now > watched.killed:
            child.kill()

    def _launch(self, watched: Watched) -> None:
        again = f"restart {watched.count} of {self._limits.restarts} after: {watched.cause}"
        self._births.launch(watched, again if watched.record.restarts else "")

    # -- the end ---------------------------------------------------------------------------------------------

    def end(self, at_once: Callable[[], bool]) -> None:
        """End everybody in order, the hub last; whoever does not end in time is killed.

        ``at_once`` is asked again and again whether there is no time left.
        """
        self._births.end()
        ended = self._end([watched for name, watched in self._all.items() if name != HUB], at_once)
        ended |= self._end([self._all[HUB]], at_once)
        self._orphans.end(ended)
        self._orphans.reap()
        self._births.close()

    def _end(self, group: Iterable[Watched], at_once: Callable[[], bool]) -> set[int]:
        present = [(watched, watched.child) for watched in group if watched.child is not None]
        for _, child in present:
            child.terminate()
        deadline = time.monotonic() + self._limits.stop_seconds
        for watched, child in present:
            while child.wait(0.05) is None:
                if at_once() or time.monotonic() > deadline:
                    child.kill()
                    child.wait(10.0)
                    break
            watched.record.state = ENDED
        return {child.pid for _, child in present}


def _brief(cause: str) -> str:
    """A cause without what stands behind it in brackets."""
    return cause.partition(" (")[0]
