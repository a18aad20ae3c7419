"""How a crew keeps its processes going: made-up processes, and a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from optix_bus.messages import Event, NodeLost, NodeReady
from optix_bus.runtime import crew as module
from optix_bus.runtime.children import Child
from optix_bus.runtime.crew import Crew, Lost
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from optix_bus.runtime.topology_settings import RunSettings
from optix_bus.runtime.watched import Watched

KILLED = -9


class FakeChild(Child):
    """Lives until it is told otherwise."""

    pids = iter(range(1 << 23, 1 << 24))  # no process has such a number

    def __init__(self, name: str) -> None:
        super().__init__(name, Path(f"{name}.log"))
        self._pid = next(self.pids)
        self.code: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def exit_code(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = 0 if self.code is None else self.code

    def kill(self) -> None:
        self.code = KILLED if self.code is None else self.code

    def wait(self, seconds: float) -> int | None:
        return self.code

    def close(self) -> None: ...


class FakeBirths:
    """Every process is there at once."""

    last: FakeBirths

    def __init__(
        self, run: RunDirectory, everybody: Mapping[str, Watched], changed: Callable[[], None]
    ) -> None:
        self.everybody = everybody
        self.launched: list[tuple[str, int]] = []
        FakeBirths.last = self

    def launch(self, watched: Watched, why: str = "") -> None:
        watched.begin(module.time.monotonic())
        watched.child = FakeChild(watched.name)
        watched.record.pid = watched.child.pid
        self.launched.append((watched.name, watched.record.incarnation))

    def attend(self, now: float) -> None: ...

    def hurry(self, watched: Watched, now: float) -> None: ...

    def is_over(self, child: Child, now: float) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class Stage:
    """A crew, and everything that it hears and says."""

    now = 1000.0

    def __init__(self, folder: Path, nodes: list[NodePlan], **limits: Any) -> None:
        self.told: list[Event] = []
        self.said: list[str] = []
        self.records: list[ProcessRecord] = []
        self.run = RunDirectory.create(folder / "run")
        self.crew = Crew(
            plan(nodes),
            self.run,
            RunSettings(**{"start_seconds": 20.0, "idle_seconds": 2.0, "restarts": 3, **limits}),
            self.records,
            adopting=False,
            lives={},
            tell=self.told.append,
            say=self.said.append,
            changed=lambda: None,
        )
        self.births = FakeBirths.last

    def child(self, name: str) -> FakeChild:
        child = self.births.everybody[name].child
        assert isinstance(child, FakeChild)
        return child

    def record(self, name: str) -> ProcessRecord:
        return next(record for record in self.records if record.name == name)

    def turn(
        self, seconds: float = 0.05, *, hub: bool = True, quiet: tuple[str, ...] = (), seq: int = 0
    ) -> None:
        """Time passes; everybody who is alive and not quiet is heard; the crew looks after them."""
        self.now += seconds
        if hub and self.births.everybody["hub"].child is not None:
            self.crew.hear_hub(f"boot {self.record('hub').incarnation}", seq)
        if hub:
            for name, watched in self.births.everybody.items():
                if name not in ("hub", *quiet) and watched.child is not None:
                    self.beat(name, seq)
        self.crew.turn()

    def turns(self, count: int, seconds: float, **more: Any) -> None:
        for _ in range(count):
            self.turn(seconds, **more)

    def kill_again_and_again(self, name: str) -> None:
        """Each life gets further than the one before."""
        for number in range(100):
            self.kill(name)
            self.turns(10, 0.05, seq=number)

    def beat(self, name: str, seq: int = 0, **more: Any) -> None:
        child = self.child(name)
        if child.code is None:
            self.crew.hear({"process": name, "pid": child.pid, "seq": seq, **more})

    def kill(self, *names: str) -> None:
        for name in names:
            self.child(name).code = KILLED

    def fail(self, name: str, message: str, **more: Any) -> None:
        """As a node that raises."""
        failure = {"message": message, "exit_code": 3, "pid": self.child(name).pid, "nodes": [name], **more}
        (self.run.failures / f"{name}.json").write_bytes(msgspec.json.encode(failure))
        self.child(name).code = failure["exit_code"]

    def events(self, kind: type[Event], node: str) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind) and event.node == node]


def node(name: str, process: str = "", **more: Any) -> NodePlan:
    return NodePlan(name=name, class_path="m:C", settings={}, role="", process=process or name, **more)


def plan(nodes: list[NodePlan]) -> RunPlan:
    return RunPlan(
        run_id="r",
        name="n",
        seed=0,
        digest="",
        run_directory="",
        environment={},
        agent={},
        run={},
        nodes=nodes,
        variant_nodes=[node("pipeline"), node("learner")],
        shares_agent=False,
        has_validation=False,
        has_optimizer=False,
        lookahead=0,
        search_path=[],
    )


NODES = [node("learner"), node("left", "pair"), node("right", "pair"), node("shown", restart="temporary")]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """Makes a stage whose crew is ready."""
    monkeypatch.setattr(module, "Births", FakeBirths)
    stages: list[Stage] = []

    def making(nodes: list[NodePlan] | None = None, **limits: Any) -> Stage:
        monkeypatch.setattr(module.time, "monotonic", lambda: stage.now if stages else Stage.now)
        stage = Stage(tmp_path, NODES if nodes is None else nodes, **limits)
        stages.append(stage)
        stage.crew.start()
        assert not stage.crew.is_ready
        stage.turn()
        assert stage.crew.is_ready
        return stage

    return making


def test_the_hub_and_whoever_learns_are_started_first(make: Callable[..., Stage]) -> None:
    stage = make([node("a"), node("b", holds_agent=True)])
    assert [name for name, _ in stage.births.launched] == ["hub", "b", "a"]


def test_every_node_is_told_ready_once(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.turn()
    ready = [event.node for event in stage.told if isinstance(event, NodeReady)]
    assert sorted(ready) == ["hub", "learner", "left", "right", "shown"]


def test_what_is_killed_comes_back_as_the_next_incarnation(make: Callable[..., Stage]) -> None:
    stage = make()
    pid = stage.child("learner").pid
    stage.kill("learner")
    stage.turn()
    (lost,) = stage.events(NodeLost, "learner")
    assert (lost.pid, lost.incarnation, lost.final) == (pid, 1, False)
    assert lost.reason.startswith("killed by SIGKILL")
    assert stage.crew.states["learner"] == "starting"
    stage.turn()
    assert stage.events(NodeReady, "learner")[-1].incarnation == 2
    record = stage.record("learner")
    assert (record.restarts, record.incarnation, record.state) == (1, 2, "ready")
    assert record.reason.startswith("killed by SIGKILL")
    assert stage.said == [
        "learner died (killed by SIGKILL); it is started again",
        "learner came back (restart 1 of 3, killed by SIGKILL)",
    ]


def test_all_nodes_of_a_process_are_lost_and_come_back_together(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("pair")
    stage.turn()
    stage.turn()
    for name in ("left", "right"):
        assert len(stage.events(NodeLost, name)) == 1
        assert [event.incarnation for event in stage.events(NodeReady, name)] == [1, 2]


def test_several_deaths_at_once_are_several_restarts(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("hub", "learner", "pair")
    stage.turn()
    assert stage.births.launched[-3:] == [("hub", 2), ("learner", 2), ("pair", 2)]
    stage.turn()
    assert stage.crew.is_ready


def test_a_second_death_while_the_first_restart_is_under_way_is_another_restart(
    make: Callable[..., Stage],
) -> None:
    stage = make()
    stage.kill("learner")
    stage.turn()
    stage.turn(quiet=("learner",))
    stage.kill("learner")
    stage.turn(quiet=("learner",))
    assert stage.crew.states["learner"] == "waiting"
    assert stage.said[-1] == "learner died (killed by SIGKILL); it is started again in 0.1 s"
    stage.turn(0.2)
    stage.turn()
    assert stage.record("learner").incarnation == 3
    assert stage.crew.is_ready


def test_waiting_for_one_keeps_nobody_from_looking_after_the_others(make: Callable[..., Stage]) -> None:
    stage = make()
    for _ in range(2):
        stage.kill("learner")
        stage.turn(quiet=("learner",))
    assert stage.crew.states["learner"] == "waiting"
    stage.kill("pair")
    stage.turn(0.01)
    assert stage.crew.states == {
        "hub": "ready",
        "learner": "waiting",
        "pair": "starting",
        "shown": "ready",
    }


def test_a_heartbeat_of_an_earlier_life_counts_for_nothing(make: Callable[..., Stage]) -> None:
    stage = make()
    before = stage.child("learner").pid
    stage.kill("learner")
    stage.turn(quiet=("learner",))
    stage.crew.hear({"process": "learner", "pid": before, "seq": 5})
    assert stage.crew.states["learner"] == "starting"


def test_the_last_words_of_a_dead_hub_are_not_those_of_the_new_one(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("hub")
    stage.turn(hub=False)
    stage.crew.hear_hub("boot 1", 9)
    assert stage.crew.states["hub"] == "starting"
    stage.crew.hear_hub("boot 2", 9)
    assert stage.crew.states["hub"] == "ready"
    assert stage.events(NodeReady, "hub")[-1].incarnation == 2


def test_a_hang_is_killed_and_comes_back(make: Callable[..., Stage]) -> None:
    stage = make()
    first = stage.child("learner")
    while first.code is None:
        stage.turn(0.5, quiet=("learner",))
    assert first.code == KILLED
    stage.turn(quiet=("learner",))
    (lost,) = stage.events(NodeLost, "learner")
    assert lost.reason == "has been silent for more than 2 s (run.idle_seconds)"
    assert len(stage.events(NodeLost, "left")) == 0
    stage.turn()
    assert stage.crew.is_ready


def test_a_hub_that_is_silent_is_killed_and_nobody_else(make: Callable[..., Stage]) -> None:
    stage = make()
    first = stage.child("hub")
    for _ in range(6):
        stage.turn(0.5, hub=False)
    assert first.code == KILLED
    for _ in range(20):
        stage.turn(0.5, hub=False)
    # The others had no way to be heard, and get their whole time again once there is one.
    stage.turn(0.5, quiet=("learner", "pair", "shown"))
    assert [event.node for event in stage.told if isinstance(event, NodeLost)] == ["hub"]
    for _ in range(8):
        stage.turn(0.5, quiet=("learner",))
    assert [event.node for event in stage.told if isinstance(event, NodeLost)] == ["hub", "learner"]


def test_a_supervisor_that_was_stopped_itself_calls_nobody_silent(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.turn(3600.0, hub=False)
    stage.turn(0.05, hub=False)
    assert not [event for event in stage.told if isinstance(event, NodeLost)]


def test_a_start_that_never_ends_is_ended(make: Callable[..., Stage]) -> None:
    stage = make(restarts=10)
    stage.kill("learner")
    with pytest.raises(Lost) as found:
        stage.turns(200, 0.5, quiet=("learner",))
    assert str(found.value).endswith(
        "was never ready in 3 starts in a row: took longer than 20 s to become ready (run.start_seconds); "
        "see the log"
    )
    assert [event.final for event in stage.events(NodeLost, "learner")][-1]


def test_the_last_line_says_who_how_often_and_why(make: Callable[..., Stage]) -> None:
    stage = make()
    with pytest.raises(Lost) as found:
        stage.kill_again_and_again("learner")
    pid = stage.events(NodeLost, "learner")[-1].pid
    assert str(found.value) == (
        f"node 'learner' (pid {pid}) died 4 times in 60 s (run.restarts is 3): killed by SIGKILL (killed "
        "from outside; if nobody did, the machine was out of memory (see the kernel's log))"
    )
    assert found.value.exit_code == 3
    assert [event.final for event in stage.events(NodeLost, "learner")] == [False, False, False, True]


def test_a_node_that_fails_twice_at_one_event_is_named_alone(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.fail("pair", "KeyError: 'x'", node="right", sequence=1234)
    stage.turn()
    stage.turn()
    stage.fail("pair", "KeyError: 'x'", node="right", sequence=1234)
    with pytest.raises(Lost, match="'right'") as found:
        stage.turn()
    assert "failed twice at event 1234 with the same error: KeyError: 'x'" in str(found.value)
    assert "'left'" not in str(found.value)


def test_what_an_earlier_life_wrote_is_not_why_this_one_died(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.fail("learner", "KeyError: 'x'", node="learner", sequence=7)
    stage.turn()
    stage.turn()
    stage.kill("learner")
    stage.turn()
    reasons = [event.reason for event in stage.events(NodeLost, "learner")]
    assert reasons[0] == "KeyError: 'x'"
    assert reasons[1].startswith("killed by SIGKILL")


def test_a_configuration_error_keeps_its_exit_code(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.fail("learner", "hidden_sizes are [0]", exit_code=2)
    with pytest.raises(Lost, match="died: hidden_sizes") as found:
        stage.turn()
    assert found.value.exit_code == 2


def test_the_run_goes_on_without_what_is_temporary(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("shown")
    for _ in range(5):
        stage.turn()
    (lost,) = stage.events(NodeLost, "shown")
    assert lost.final
    assert stage.crew.is_ready
    assert stage.record("shown").state == "lost"
    assert stage.said == ["shown is gone (killed by SIGKILL); the run goes on without it"]


def test_remarks_of_a_process_that_came_back_are_told(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("learner")
    stage.turn(quiet=("learner",))
    stage.beat("learner", 3, ready=False)
    assert stage.crew.states["learner"] == "recovering"
    stage.beat("learner", 9, ready=True, remarks=["an open episode was cut"])
    assert stage.events(NodeReady, "learner")[-1].remarks == ("an open episode was cut",)
    assert stage.said[-1] == "learner: an open episode was cut"


def test_incarnations_go_on_behind_those_that_the_journal_knows(tmp_path: Path, make: Any) -> None:
    made = Crew(
        plan([node("left", "pair"), node("right", "pair")]),
        RunDirectory.create(tmp_path / "other"),
        RunSettings(),
        records := [],
        adopting=False,
        lives={"left": 4, "right": 6},
        tell=lambda event: None,
        say=lambda text: None,
        changed=lambda: None,
    )
    assert {record.name: record.incarnation for record in records} == {"hub": 1, "pair": 7}
    made.end(lambda: True)


def test_at_the_end_everybody_has_ended(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.kill("learner", "pair")
    stage.turn()
    children = [stage.child(name) for name in ("hub", "learner", "pair", "shown")]
    stage.crew.end(lambda: False)
    assert all(child.code is not None for child in children)
    assert {record.state for record in stage.records} == {"ended"}


class Deaf(FakeChild):
    """Does not end when it is asked to."""

    def terminate(self) -> None: ...


def test_a_variant_joins_in_a_process_of_its_own_and_comes_back_like_any_other(
    make: Callable[..., Stage],
) -> None:
    stage = make()
    stage.crew.join(2)
    assert stage.births.launched[-1] == ("variant-2", 1)
    assert stage.record("variant-2").nodes == ["variant-2-pipeline", "variant-2-learner"]
    stage.turn()
    assert stage.crew.states["variant-2"] == "ready"
    stage.crew.join(2)  # it is there
    stage.kill("variant-2")
    stage.turn()
    stage.turn()
    assert [name for name in stage.births.launched if name[0] == "variant-2"] == [
        ("variant-2", 1),
        ("variant-2", 2),
    ]
    assert [event.incarnation for event in stage.events(NodeReady, "variant-2-learner")] == [1, 2]


def test_who_is_dismissed_ends_in_order_once_it_has_handled_that(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.crew.join(1)
    stage.turn(seq=5)
    child = stage.child("variant-1")
    stage.crew.dismiss(1, 9)
    stage.turn(seq=8)
    assert child.code is None
    stage.turn(seq=9)
    assert child.code == 0
    stage.turn(seq=10)
    assert stage.crew.states["variant-1"] == "ended"
    stage.turns(5, 1.0, seq=11)
    assert stage.births.launched.count(("variant-1", 1)) == 1
    assert stage.events(NodeLost, "variant-1-learner") == []
    assert stage.crew.is_ready
    stage.crew.dismiss(7, 12)  # nobody


def test_who_dies_before_it_has_handled_its_dismissal_comes_back_to_do_so(
    make: Callable[..., Stage],
) -> None:
    stage = make()
    stage.crew.join(1)
    stage.turn(seq=5)
    stage.crew.dismiss(1, 9)
    stage.kill("variant-1")
    stage.turn(seq=5)
    assert stage.births.launched[-1] == ("variant-1", 2)
    stage.turn(seq=9)
    stage.turn(seq=9)
    assert stage.crew.states["variant-1"] == "ended"


def test_who_hangs_on_its_way_out_is_killed_and_nobody_is_lost(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make(stop_seconds=3.0)
    monkeypatch.setattr(FakeBirths, "launch", _launch_deaf)
    stage.crew.join(1)
    stage.turn(seq=5)
    child = stage.child("variant-1")
    stage.crew.dismiss(1, 5)
    stage.turns(3, 0.9, seq=6)
    assert child.code is None
    stage.turns(3, 0.9, seq=6)
    assert child.code == KILLED
    stage.turn(seq=6)
    assert stage.crew.states["variant-1"] == "ended"
    assert stage.events(NodeLost, "variant-1-learner") == []


def _launch_deaf(self: FakeBirths, watched: Watched, why: str = "") -> None:
    watched.begin(module.time.monotonic())
    watched.child = Deaf(watched.name)
    watched.record.pid = watched.child.pid


def test_who_has_left_since_the_cut_is_started_with_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Births", FakeBirths)
    stage = Stage(tmp_path, NODES)
    stage.crew.admit(1, leaves=9)
    stage.crew.admit(2)
    stage.crew.start()
    assert {name for name, _ in stage.births.launched} >= {"learner", "variant-1", "variant-2"}
    for _ in range(3):
        stage.turn(seq=9)
    assert (stage.crew.states["variant-1"], stage.crew.states["variant-2"]) == ("ended", "ready")
    assert stage.crew.is_ready
