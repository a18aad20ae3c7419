"""Nodes of variants between any two events of a run: new ones with their states go on, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodes.checkpoint import CheckpointNode
from nodes.evaluator import EvaluatorNode
from nodes.learner import LearnerNode
from nodes.optimizer import OptimizerNode
from nodes.pipeline import PipelineNode
from nodes.policy_manager import PolicyManagerNode
from nodes.scheduler import SchedulerNode
from nodes.variant_evaluator import VariantEvaluatorNode
from nodes.variant_learner import VariantLearnerNode
from nodes.variant_pipeline import VariantPipelineNode
from optix_bus import VectorBatchPipeline
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.evolution.population import Population
from optix_bus.evolution.settings import EvolutionSettings
from optix_bus.loop import CutPlan, LoopMachine, LoopSettings
from optix_bus.loop.members import Members
from optix_bus.messages import (
    CollectWindow,
    Dormant,
    HyperparametersChanged,
    HyperparametersProposed,
    StopRequested,
    VariantAdmitted,
    VariantCollected,
    VariantDismissed,
    VariantScored,
    VariantSeeded,
    VariantUpdated,
)
from optix_bus.runtime.node import Node
from tests.nodes.stage import Stage
from tests.nodes.test_evolving import PLATEAU, Level, of
from tests.nodes.test_states import Remembering
from tests.nodes.worlds import Corridor


class Noting(ReturnEvaluator):
    """Counts what it has scored: a variant's must not count another's episodes, and must not forget."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def score_validation(self, episode_data: Any) -> Any:
        self.given += 1
        metrics = super().score_validation(episode_data)
        metrics.metrics["given"] = self.given
        return metrics

    def state(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.given = int(state["given"])


def names(variant: int) -> tuple[str, ...]:
    return tuple(f"variant-{variant}-{name}" for name in ("validation", "pipeline", "learner", "evaluator"))


def pipeline(role: str, seed: int) -> VectorBatchPipeline:
    return VectorBatchPipeline([Corridor] * 2, window_size=10, seed=seed, role=role)


def variant(number: int) -> Mapping[str, Node]:
    """All nodes of one variant, which share an agent. Until it is seeded they lie idle."""
    agent = Level([10])
    validation = VariantPipelineNode(pipeline("validation", number), "validation", agent=agent, episodes=2)
    training = VariantPipelineNode(pipeline("train", number), agent=agent)
    validation.variant = training.variant = number
    learner = VariantLearnerNode(agent, variant=number)
    evaluator = VariantEvaluatorNode(Noting(), number)
    return dict(zip(names(number), (validation, training, learner, evaluator), strict=True))


def world(folder: Path, **evolution: Any) -> Mapping[str, Node]:
    """The topology with an optimizer, and the nodes of as many variants as there may be."""
    agent = Level([10, 20, 40] + [60] * 40)
    machine = LoopMachine(LoopSettings(**PLATEAU, max_episodes=40), validation=True)
    options = {"variants": "nodes", "max_spawns": 2, "max_ensemble_size": 2, "weight_noise": 1.0, **evolution}
    return {
        "validation": PipelineNode(pipeline("validation", 0), "validation", agent=agent, episodes=2),
        "pipeline": PipelineNode(pipeline("train", 0), agent=agent),
        "learner": LearnerNode(agent),
        "evaluator": EvaluatorNode(ReturnEvaluator(), validation=True),
        "scheduler": SchedulerNode(
            machine, validation=True, optimizer=True, cuts=CutPlan(3), evolution=True, members=Members(names)
        ),
        "checkpoint": CheckpointNode(CheckpointRegistry(folder, 3, run_id="variants")),
        "optimizer": OptimizerNode(lambda *_: Remembering()),
        "policy_manager": PolicyManagerNode(Population(EvolutionSettings(**options))),
        **variant(1),
        **variant(2),
    }


def test_new_nodes_go_on_from_any_boundary_of_a_plateau_with_the_same_bytes(tmp_path: Path) -> None:
    def build() -> Mapping[str, Node]:
        return world(tmp_path)

    whole = Stage(build, seed=3)
    boundaries = whole.run_with_boundaries()
    last = boundaries[-1]
    whole.close()
    # From the second plateau on: one variant is pruned and dismissed, another one admitted and seeded.
    second = whole.events.index(of(whole.events, Dormant)[1])
    left = whole.events.index(of(whole.events, VariantDismissed)[0])
    there = next(n for n, e in enumerate(whole.events) if n > left and isinstance(e, VariantScored))
    for boundary in boundaries[second - 1 : there + 2 : 2]:
        stage = Stage.at(build, boundary, seed=3)
        assert stage.states() == boundary.states, f"after event {boundary.sequence}"
        stage.run()
        assert stage.stream == whole.stream[boundary.sequence :], f"from event {boundary.sequence} on"
        assert stage.states() == last.states
        stage.close()


def test_the_weights_of_a_variant_are_a_clone_with_noise_and_what_is_tuned_is_the_learner(
    tmp_path: Path,
) -> None:
    stage = Stage(lambda: world(tmp_path), seed=3).run()
    seeded, first = of(stage.events, VariantSeeded)[0], of(stage.events, VariantUpdated)[0]
    clone = stage.store.read(seeded.policy).arrays["level"][1]
    assert stage.store.read(first.policy).arrays["level"][1] > clone
    # The tuner goes on after the plateau; the variant's hyperparameters stay as they were made.
    after = stage.events[stage.events.index(first) :]
    assert [event for event in of(after, HyperparametersProposed) if event.changed]
    assert len({event.params["learning_rate"] for event in of(after, HyperparametersChanged)}) > 1
    own = [event for event in of(after, VariantUpdated) if event.variant == 1]
    assert {event.params["learning_rate"] for event in own} == {seeded.params["learning_rate"]}
    stage.close()


def test_nodes_of_a_variant_lie_idle_before_it_is_there_and_behind_its_dismissal(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path), seed=3).run()
    admitted = {event.variant: stage.events.index(event) for event in of(stage.events, VariantAdmitted)}
    (dismissed,) = of(stage.events, VariantDismissed)
    left = {dismissed.variant: stage.events.index(dismissed)}
    for number, event in enumerate(stage.events):
        if isinstance(event, VariantUpdated | VariantCollected | VariantScored):
            assert admitted[event.variant] < number < left.get(event.variant, len(stage.events))
    for variant in (1, 2):
        given = [e.metrics["given"] for e in of(stage.events, VariantScored) if e.variant == variant]
        assert given == [float(n + 1) for n in range(len(given))]
    assert of(stage.events[: admitted[1]], CollectWindow)
    assert of(stage.events[left[1] :], CollectWindow)
    stage.close()


def test_a_person_who_stops_the_run_is_obeyed_by_variants_too(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path), seed=3)
    while not of(stage.events, VariantScored):
        stage.step()
    stage.queue.appendleft(("supervisor", 0, 9, StopRequested(reason="enough")))
    there = len(stage.events) + 1
    stage.run()
    assert stage.finished is not None
    assert stage.finished.reason == "enough"
    waiting = [event for event in of(stage.events[there:], VariantCollected) if event.purpose == "train"]
    assert len(waiting) <= 1  # what was said before
    assert any("trained to the end" in line for line in stage.finished.report)
    stage.close()
