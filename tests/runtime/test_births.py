"""Who is forked and who is a new interpreter; nobody waits for a nursery that does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optix_bus.runtime import births as module
from optix_bus.runtime.births import Births
from optix_bus.runtime.children import AdoptedChild, Child
from optix_bus.runtime.nursery import Birth
from optix_bus.runtime.restarts import Restarts
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from optix_bus.runtime.watched import Watched

#: No process has such a number.
NOBODY = 2**22 + 5


class FakeChild(Child):
    """A process that only knows how it was started."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        super().__init__(name, log)
        self.arguments = arguments
        self.code: int | None = None

    @property
    def pid(self) -> int:
        return NOBODY

    @property
    def exit_code(self) -> int | None:
        return self.code

    def terminate(self) -> None: ...

    def kill(self) -> None:
        self.code = -9

    def wait(self, seconds: float) -> int | None:
        return self.code

    def close(self) -> None: ...


class FakeNursery(FakeChild):
    """Answers what the test wants."""

    def __init__(self, run: Path, log: Path, lifeline: int) -> None:
        super().__init__("nursery", [], log)
        self.is_ready = False
        self.asked: list[tuple[str, int]] = []
        self.answers: list[Birth] = []

    def ask(self, process: str, incarnation: int, log: Path) -> None:
        self.asked.append((process, incarnation))

    def poll(self) -> list[Birth]:
        found, self.answers = self.answers, []
        return found


class Stage:
    """A learner that is forked, a scheduler that is not, and the nursery."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDirectory.create(folder / "run")
        self.everybody = {
            name: Watched(
                ProcessRecord(name, 0, 0.0, incarnation=1),
                Restarts("transient", 10, 60.0),
                warm=name == "learner",
                beats=name != "nursery",
            )
            for name in ("nursery", "learner", "scheduler")
        }
        self.births = Births(self.run, self.everybody, lambda: None)

    def __getattr__(self, name: str) -> Watched:
        return self.everybody[name]

    @property
    def fake(self) -> FakeNursery:
        child = self.nursery.child
        assert isinstance(child, FakeNursery)
        return child

    def start(self) -> None:
        for watched in self.everybody.values():
            self.births.launch(watched)

    def restart(self, watched: Watched) -> None:
        watched.record.restarts += 1
        watched.record.incarnation += 1
        self.births.launch(watched, "why")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "Nursery", FakeNursery)
    monkeypatch.setattr(module, "SpawnedChild", FakeChild)
    made = Stage(tmp_path)
    yield made
    made.births.close()


def ready(stage: Stage, now: float = 1.0) -> None:
    """The nursery has imported everything, and the learner is born."""
    stage.fake.is_ready = True
    stage.fake.answers = [Birth("learner", 1, NOBODY)]
    stage.births.attend(now)


def test_the_first_start_waits_for_the_nursery_and_light_processes_do_not(stage: Stage) -> None:
    stage.start()
    assert stage.fake.asked == [("learner", 1)]
    assert stage.learner.child is None
    assert isinstance(stage.scheduler.child, FakeChild)
    assert stage.scheduler.child.arguments[1:] == [
        "optix_bus.runtime.host",
        str(stage.run.root),
        "scheduler",
        "1",
    ]


def test_what_is_born_is_taken_down(stage: Stage) -> None:
    stage.start()
    ready(stage)
    assert isinstance(stage.learner.child, AdoptedChild)
    assert stage.learner.record.pid == NOBODY
    assert stage.nursery.record.state == "ready"
    assert stage.nursery.handled == 1


def test_a_restart_is_forked_by_a_nursery_that_is_warm(stage: Stage) -> None:
    stage.start()
    ready(stage)
    stage.restart(stage.learner)
    assert stage.fake.asked[-1] == ("learner", 2)
    assert stage.learner.child is None


def test_a_restart_does_not_wait_for_a_nursery_that_is_not(stage: Stage) -> None:
    stage.start()
    stage.restart(stage.learner)
    assert isinstance(stage.learner.child, FakeChild)
    assert stage.learner.child.arguments[-2:] == ["learner", "2"]


@pytest.mark.parametrize("dies", [True, False])
def test_who_cannot_be_forked_is_a_new_interpreter(stage: Stage, dies: bool) -> None:
    stage.start()
    stage.fake.answers = [Birth("learner", 1, 0)]
    if dies:
        stage.births.is_over(stage.fake, 1.0)
    else:
        stage.births.attend(1.0)
    assert isinstance(stage.learner.child, FakeChild)


def test_an_answer_to_an_earlier_request_starts_nobody(stage: Stage) -> None:
    stage.start()
    ready(stage)
    stage.restart(stage.learner)
    stage.fake.answers = [Birth("learner", 1, 0)]
    stage.births.attend(2.0)
    assert stage.learner.child is None


def test_a_warm_nursery_that_does_not_fork_is_killed(stage: Stage) -> None:
    stage.start()
    stage.births.hurry(stage.learner, stage.learner.started + 100.0)
    assert stage.fake.code is None, "it is still importing"
    ready(stage, stage.learner.started)
    stage.restart(stage.learner)
    stage.births.hurry(stage.learner, stage.learner.started + 1.9)
    assert stage.fake.code is None
    stage.births.hurry(stage.learner, stage.learner.started + 2.1)
    assert stage.fake.code == -9
    assert stage.nursery.verdict == "did not fork learner in 2 s"


def test_without_a_nursery_nobody_asks_for_one(tmp_path: Path, stage: Stage) -> None:
    del stage.everybody["nursery"]
    stage.start()
    assert isinstance(stage.learner.child, FakeChild)
    stage.births.hurry(stage.learner, 1e9)
    stage.births.attend(1e9)
    stage.births.end()


def test_between_two_lives_there_is_a_line_in_the_log(stage: Stage) -> None:
    stage.start()
    log = stage.run.logs / "scheduler.log"
    assert not log.exists()
    stage.restart(stage.scheduler)
    (line,) = log.read_text().splitlines()
    assert line.startswith("--- 20")
    assert line.endswith("Z scheduler, life 2: why ---")


def test_whoever_is_born_while_the_run_ends_is_known_and_can_be_ended(stage: Stage) -> None:
    stage.start()
    fake = stage.fake
    fake.answers = [Birth("learner", 1, NOBODY)]
    stage.births.end()
    assert fake.code == -9
    assert isinstance(stage.learner.child, AdoptedChild)
