"""The run itself: start, end, nodes that come and go, cuts and timers."""

from __future__ import annotations

from optix_bus.messages.base import Event


class RunStarted(Event, frozen=True, kw_only=True):
    """First event of a run. From the supervisor (or the inline runner) to all nodes; a process fact.

    ``fingerprint`` names what must be equal for bit-equal results: CPU, versions, thread counts.
    """

    run_id: str
    seed: int
    topology_digest: str = ""
    nodes: tuple[str, ...] = ()
    fingerprint: dict[str, str] = {}


class RunResumed(Event, frozen=True, kw_only=True):
    """A run goes on whose processes were all gone. From the supervisor; a process fact.

    ``cut`` is where the nodes began (0: at the first event), ``window`` the last window before it.
    ``remarks`` say what could not be used or taken up again.
    """

    cut: int
    window: int
    remarks: tuple[str, ...] = ()
    fingerprint: dict[str, str] = {}


class NodeReady(Event, frozen=True, kw_only=True):
    """A node has set itself up, has handled what the journal held, and listens. From the supervisor; a
    process
    fact. ``remarks`` say what could not be taken up again, for example an open episode."""

    node: str
    pid: int
    incarnation: int
    remarks: tuple[str, ...] = ()


class NodeLost(Event, frozen=True, kw_only=True):
    """A node's process is gone or was given up. From the supervisor; a process fact.

    ``reason`` is the root cause in one line: signal, exit code or the error it raised. ``final`` says that it
    does not come back: nobody needs to wait for it or to keep anything for it.
    """

    node: str
    pid: int
    incarnation: int
    reason: str
    final: bool = False


class StopRequested(Event, frozen=True, kw_only=True):
    """A person or the supervisor asks the loop to end. Pipelines and learner stop at once, the scheduler
    has the best policy restored and ends the run."""

    reason: str = "stop requested"


class RunFinished(Event, frozen=True, kw_only=True):
    """Last event of a run, from the scheduler: the best policy is restored, nothing more will be asked.

    ``reason`` is one of ``converged``, ``target_score``, ``max_episodes``, ``max_steps`` and what
    `StopRequested` gave. Scores are NaN and versions -1 where there is no evaluated policy. ``report``
    holds the lines that the convergence test has to say.
    """

    reason: str
    windows: int
    steps: int
    evaluations: int
    best_score: float
    best_standard_error: float
    best_policy_version: int
    best_window: int
    train_score: float
    generalization_gap: float
    state: str
    decided_by_loop: bool
    report: tuple[str, ...] = ()


class CutAnnounced(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Every node writes its state as of this event. From the scheduler, at a window boundary.

    ``nodes`` are those that belong to the run beside the ones of its plan: nodes of variants.
    """

    cut: int
    window: int
    nodes: tuple[str, ...] = ()


class CutTaken(Event, frozen=True, kw_only=True):
    """A node's state as of a cut is on disk. From that node.

    ``file`` is relative to the run directory; ``checksum`` is xxh3-128 of its bytes. ``repeats`` is False
    where the node cannot do again what it did since: who resumes then goes back to the cut.
    """

    cut: int
    node: str
    file: str
    bytes: int
    checksum: str
    repeats: bool = True


class TimerSet(Event, frozen=True, kw_only=True):
    """A node wants `TimerFired` with this key back after ``seconds``, counted from this event's stamp."""

    node: str
    key: str
    seconds: float


class TimerFired(Event, frozen=True, kw_only=True):
    """A timer is due. From the runner, as a root of the node itself."""

    node: str
    key: str
