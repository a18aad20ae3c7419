"""A process that dies and comes back without all that it knew, and a replay that comes back with it."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from optix_bus.bus import blob_format
from optix_bus.bus.blobs import FileBlobStore, MemoryBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.messages import (
    VOCABULARY,
    CollectWindow,
    CutAnnounced,
    Event,
    Plateaued,
    RunStarted,
    WindowCollected,
)
from optix_bus.runtime.cuts import Taken, take
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.node import Context, Node, NoSettings, handles
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.recovery import is_answered
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import Watch, replay
from optix_bus.types import NamedArrays

CODEC = Codec(VOCABULARY)


class Maker(Node):
    """Makes an array for each window; knows itself well enough to repeat it."""

    emits = (WindowCollected,)

    def __init__(self, settings: NoSettings) -> None:
        self.made = 0

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        self.made += 1
        data = ctx.write_blob("window", event.window, NamedArrays({"x": np.arange(event.window + 1.0)}))
        ctx.emit(
            WindowCollected(
                role="train",
                purpose="train",
                window=event.window,
                policy_version=0,
                hyperparams_version=0,
                evaluate=False,
                data=data,
                steps=self.made,
                total_steps=self.made,
                episodes=0,
            )
        )

    def state(self) -> NamedArrays:
        return NamedArrays({}, {"made": self.made})

    def load_state(self, state: NamedArrays) -> tuple[str, ...]:
        self.made = state.metadata["made"]
        return ()


class Forgetful(Node):
    """Its total is in its state. How many windows it has handled in this life is not, nor of how many it was
    told that it had handled them before; both show."""

    emits = (Plateaued,)

    def __init__(self, settings: NoSettings) -> None:
        self.total = 0.0
        self.in_this_life = 0
        self.told = 0

    @property
    def repeats(self) -> bool:
        return False

    @handles(WindowCollected)
    def on_window(self, event: WindowCollected, ctx: Context) -> None:
        self.total += float(ctx.read_blob(event.data).arrays["x"].sum())
        self.in_this_life += 1
        ctx.emit(Plateaued(window=event.window, state=f"{self.total:g} {self.in_this_life} {self.told}"))

    def repeat(self, event: Event, ctx: Context, recorded: object) -> None:
        assert recorded, "what it had answered is known"
        assert isinstance(event, WindowCollected)
        self.total += float(ctx.read_blob(event.data).arrays["x"].sum())
        self.told += 1

    def state(self) -> NamedArrays:
        return NamedArrays({}, {"total": self.total})

    def load_state(self, state: NamedArrays) -> tuple[str, ...]:
        self.total = state.metadata["total"]
        return ()


class World:
    """A hub, two processes and a driver, in a list; writes what they would leave."""

    def __init__(self) -> None:
        self.store = MemoryBlobStore()
        self.folds = {name: self._fold(name) for name in ("maker", "forgetful")}
        self.lives = {"driver": 1, "maker": 1, "forgetful": 1}
        self.records: list[Record] = []
        self.queue: deque[tuple[str, int, int, Event]] = deque()
        self.roots = 0
        #: Announcement and states of each cut.
        self.cuts: list[tuple[int, dict[str, Taken]]] = [(0, {})]
        self.root(RunStarted(run_id="lives", seed=0))

    def _fold(self, name: str) -> Fold:
        kind = {"maker": Maker, "forgetful": Forgetful}[name]
        return Fold(name, kind(NoSettings()), seed=0, store=self.store)

    def root(self, event: Event) -> None:
        self.queue.append(("driver", 0, self.roots, event))
        self.roots += 1
        self.run()

    def window(self, number: int) -> None:
        self.root(CollectWindow(window=number, policy_version=0, hyperparams_version=0, evaluate=False))

    def run(self, until: type[Event] | None = None) -> None:
        while self.queue:
            node, cause, index, event = self.queue.popleft()
            seq = len(self.records) + 1
            name, body = CODEC.encode(event)
            self.records.append(Record(seq, seq * 10**6, node, self.lives[node], cause, index, name, body))
            for fold in self.folds.values():
                if type(event) in fold.accepts:
                    emitted = fold.apply(event, seq, seq * 10**6)
                    self.queue.extend((fold.name, seq, i, item) for i, item in enumerate(emitted))
            if isinstance(event, CutAnnounced):
                taken = {name: take(name, fold.node, event) for name, fold in self.folds.items()}
                self.cuts.append((seq, taken))
                self.queue.extend((name, seq, 0, state.event) for name, state in taken.items())
            if until is not None and isinstance(event, until):
                return

    def die(self, name: str, cut: int = -1) -> None:
        """What the host of a process does that comes back: the state at a cut, then everything behind it."""
        sequence, taken = self.cuts[cut]
        self.lives[name] += 1
        fold = self.folds[name] = self._fold(name)
        if name in taken:
            fold.node.load_state(blob_format.parse(b"".join(taken[name].pieces), taken[name].event.file))
        answers: dict[int, list[Event]] = {}
        for record in self.records:
            if record.node == name and record.cause > sequence:
                answers.setdefault(record.cause, []).append(CODEC.decode(record.type, record.body))
        answered = max([record.cause for record in self.records if record.node == name], default=0)
        self.queue = deque(entry for entry in self.queue if entry[0] != name)
        for record in self.records[sequence:]:
            event = CODEC.decode(record.type, record.body)
            if type(event) not in fold.accepts:
                continue
            recorded = answers.get(record.seq, [])
            if not fold.node.repeats and is_answered(record.seq, answered, recorded):
                fold.repeat(event, record.seq, record.stamp_ns, recorded)
                continue
            for i, item in enumerate(fold.apply(event, record.seq, record.stamp_ns)):
                if (record.seq, i) > (answered, len(recorded) - 1 if recorded else i):
                    self.queue.append((name, record.seq, i, item))

    def write(self, root: Path, *, lives: bool = True) -> RecordedRun:
        """The run directory; without ``lives`` as if nobody had died."""
        writer = JournalWriter(root / "journal", Ledger(), run="lives")
        for record in self.records:
            if not lives:
                record.incarnation = 1
            entry = writer.encode(record.type, record.seq, record.stamp_ns, encode_record(record))
            assert writer.append([entry], [record.type], [record.stamp_ns]) == 1
        writer.close()
        RunPlan(
            run_id="lives",
            name="lives",
            seed=0,
            digest="",
            run_directory=str(root),
            environment={"id": "none", "kwargs": {}},
            agent={},
            run={},
            nodes=[
                NodePlan(
                    name=name,
                    class_path=f"tests.runtime.test_replay_lives:{name.capitalize()}",
                    settings={},
                    role="",
                    process=name,
                )
                for name in ("maker", "forgetful")
            ],
            shares_agent=False,
            has_validation=False,
            has_optimizer=False,
            lookahead=0,
            has_cuts=True,
            search_path=[],
        ).write(root / "plan.json")
        return RecordedRun(root)


def states(run: RecordedRun) -> list[str]:
    return [run.decode(r).state for r in run.records() if r.type == "Plateaued"]  # type: ignore[attr-defined]


@pytest.fixture
def world() -> World:
    made = World()
    made.window(1)
    made.root(CutAnnounced(cut=1, window=1))
    made.window(2)
    return made


def test_a_node_begins_anew_where_it_did_in_the_run(world: World, tmp_path: Path) -> None:
    world.die("forgetful")
    world.window(3)
    run = world.write(tmp_path)
    assert states(run) == ["1 1 0", "4 2 0", "10 2 0"]
    report = replay(run)
    assert (report.exit_code, report.divergence, report.unrecorded) == (0, None, [])
    assert any("forgetful came back before event" in note and "cut 1" in note for note in report.notes)
    assert replay(run, ["maker"]).exit_code == 0


def test_who_did_not_die_is_not_begun_anew(world: World, tmp_path: Path) -> None:
    world.die("forgetful")
    world.window(3)
    run = world.write(tmp_path, lives=False)
    found = replay(run).divergence
    assert found is not None
    assert (found.node, found.expected, found.found) == ("forgetful", "10 2 0", "10 3 0")


def test_what_it_had_not_answered_when_it_died_it_answers_as_another(world: World, tmp_path: Path) -> None:
    world.queue.append(
        (
            "driver",
            0,
            world.roots,
            CollectWindow(window=3, policy_version=0, hyperparams_version=0, evaluate=False),
        )
    )
    world.roots += 1
    world.run(until=WindowCollected)
    assert world.queue
    world.die("forgetful")
    world.run()
    world.window(4)
    run = world.write(tmp_path)
    assert states(run) == ["1 1 0", "4 2 0", "10 2 0", "20 3 0"]
    report = replay(run)
    assert (report.exit_code, report.divergence, report.unrecorded) == (0, None, [])


def test_it_may_die_more_than_once_and_a_newer_cut_takes_the_place_of_the_older(
    world: World, tmp_path: Path
) -> None:
    world.die("forgetful")
    world.die("forgetful")
    world.window(3)
    world.root(CutAnnounced(cut=2, window=3))
    world.die("forgetful")
    world.window(4)
    world.die("maker")
    world.window(5)
    run = world.write(tmp_path)
    assert states(run) == ["1 1 0", "4 2 0", "10 2 0", "20 1 0", "35 2 0"]
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)
    assert sum("came back" in note for note in report.notes) == 2


def test_before_the_first_cut_it_begins_with_the_first_event(tmp_path: Path) -> None:
    world = World()
    world.window(1)
    world.window(2)
    world.die("forgetful")
    world.window(3)
    run = world.write(tmp_path)
    assert states(run) == ["1 1 0", "4 2 0", "10 2 1"]
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)
    assert any("begun anew at the first event" in note for note in report.notes)


@pytest.mark.parametrize(
    ("cut", "where", "then"),
    [(-1, "cut 3", "20 1 0"), (-2, "cut 2", "20 1 1"), (0, "the first event", "20 1 3")],
)
def test_what_it_did_then_says_at_which_cut_it_began(
    world: World, tmp_path: Path, cut: int, where: str, then: str
) -> None:
    """Others may complete a cut while a process is on its way back: it has begun at an older one."""
    world.root(CutAnnounced(cut=2, window=2))
    world.window(3)
    world.root(CutAnnounced(cut=3, window=3))
    world.die("forgetful", cut)
    world.window(4)
    run = world.write(tmp_path)
    assert states(run)[-1] == then
    # The run has recorded its arrays: what is older than the newest cut but one lies in its archive.
    archive = FileBlobStore(tmp_path / "blobs", tmp_path / "blobs", budget_bytes=1 << 20, owner="maker")
    for number in range(1, 5):
        archive.write(f"maker/window-{number:06d}", NamedArrays({"x": np.arange(number + 1.0)}))
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)
    assert any(note.endswith(f"begun anew at {where}") for note in report.notes)


def test_arrays_are_kept_for_it_back_to_the_newest_cut_but_one_and_no_further(
    world: World, tmp_path: Path
) -> None:
    for number in range(3, 9):
        world.window(number)
        world.root(CutAnnounced(cut=number, window=number))

    class Weigh(Watch):
        heaviest = 0

        def after(self, played, stage):
            self.heaviest = max(self.heaviest, stage.blobs.used_bytes)
            return True

    weigh = Weigh()
    assert replay(world.write(tmp_path), watch=weigh).exit_code == 0
    assert weigh.heaviest < 3 * (8 * 9 + 200)
