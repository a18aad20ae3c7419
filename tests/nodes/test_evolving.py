"""A run that reaches plateaus goes on from variants, inline, byte for byte, and in a Python user's loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nodes.checkpoint import CheckpointNode
from nodes.evaluator import EvaluatorNode
from nodes.learner import LearnerNode
from nodes.optimizer import OptimizerNode
from nodes.pipeline import PipelineNode
from nodes.policy_manager import PolicyManagerNode
from nodes.scheduler import SchedulerNode
from optix_bus import (
    BatchPipeline,
    EnsembleAgent,
    LoopCallback,
    MetaAction,
    MetaController,
    PolicyManager,
    RLOptimizer,
    VectorBatchPipeline,
)
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.errors import ConfigurationError
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.evolution.line import EvolutionLine
from optix_bus.evolution.settings import EvolutionSettings
from optix_bus.loop import CutPlan, LoopMachine, LoopSettings
from optix_bus.messages import (
    Dormant,
    EnsembleReweighted,
    EvolutionDecided,
    HyperparametersChanged,
    HyperparametersProposed,
    PolicyUpdated,
    RunFinished,
    SnapshotSaved,
    StopRequested,
    VariantPruned,
    VariantRequested,
    VariantSpawned,
)
from optix_bus.runtime.node import Node
from tests.nodes.stage import Stage
from tests.nodes.test_states import Remembering
from tests.nodes.worlds import Corridor, Drawing, Scripted

PLATEAU: dict[str, Any] = {
    "noise_k": 0.5,
    "score_smoothing": 1,
    "plateau_threshold": 2,
    "dormant_threshold": 3,
    "convergence": "classical",
    "convergence_window": 5,
    "looks": 1,
}


class Level(Drawing):
    """Rises along its script and stays there; its policy travels, and its weights can be perturbed."""

    def learn(self, episode_data: Any) -> dict[str, Any]:
        return Scripted.learn(self, episode_data)

    def perturb_weights(self, noise_scale: float) -> None:
        self.level += int(self.rng.integers(1, 4))


def world(
    folder: Path, seed: int = 0, *, lookahead: int = 0, kind: type[Drawing] = Level, **evolution: Any
) -> Mapping[str, Node]:
    """Everything that a topology has, with an optimizer that proposes something each time."""
    agent = kind([10, 20, 40] + [60] * 40)
    machine = LoopMachine(LoopSettings(**PLATEAU, max_episodes=60), validation=True)
    options = {"max_spawns": 2, "weight_noise": 1.0, **evolution}
    return {
        "validation": PipelineNode(
            VectorBatchPipeline([Corridor] * 2, window_size=10, seed=seed, role="validation"),
            "validation",
            agent=agent,
            episodes=2,
        ),
        "pipeline": PipelineNode(VectorBatchPipeline([Corridor] * 2, window_size=10, seed=seed), agent=agent),
        "learner": LearnerNode(agent),
        "evaluator": EvaluatorNode(ReturnEvaluator(), validation=True),
        "scheduler": SchedulerNode(
            machine, validation=True, optimizer=True, lookahead=lookahead, cuts=CutPlan(3), evolution=True
        ),
        "checkpoint": CheckpointNode(CheckpointRegistry(folder, 3, run_id="evolving")),
        "optimizer": OptimizerNode(lambda *_: Remembering()),
        "policy_manager": PolicyManagerNode(EvolutionLine(EvolutionSettings(**options))),
    }


def of(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_plateau_is_answered_by_a_variant_until_the_budget_is_spent(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path), seed=0).run()
    decided = of(stage.events, EvolutionDecided)
    assert [(event.action, event.variant) for event in decided] == [("spawn", 1), ("spawn", 2), ("stop", 2)]
    assert len(of(stage.events, Dormant)) == 3
    finished = stage.finished
    assert finished is not None
    assert (finished.reason, finished.decided_by_loop) == ("converged", True)
    text = "\n".join(finished.report)
    assert "Spawns used          2 / 2" in text
    assert "the spawn budget is spent" in text
    assert "[2] weight=" in text
    stage.close()


def test_the_learner_goes_on_from_a_clone_of_the_best_with_the_variants_hyperparameters(
    tmp_path: Path,
) -> None:
    stage = Stage(lambda: world(tmp_path), seed=0).run()
    decided, requested = of(stage.events, EvolutionDecided)[0], of(stage.events, VariantRequested)[0]
    spawned = of(stage.events, VariantSpawned)[0]
    assert requested.params == spawned.params == decided.params
    before = stage.events[: stage.events.index(spawned)]
    assert spawned.snapshot_id == of(before, SnapshotSaved)[-1].snapshot_id
    after = stage.events[stage.events.index(spawned) + 1 :]
    changed, policy = of(after, HyperparametersChanged)[0], of(after, PolicyUpdated)[0]
    assert changed.params["learning_rate"] == pytest.approx(decided.params["learning_rate"])
    assert (policy.origin, policy.window, policy.hyperparams_version) == (
        "variant",
        decided.window,
        changed.version,
    )
    clone = stage.store.read(spawned.policy).arrays["level"][1]
    assert stage.store.read(policy.policy).arrays["level"][1] > clone  # weight noise
    # The optimizer had its say about this window before; the variant's set is what holds.
    order = [type(event) for event in stage.events]
    assert order.index(HyperparametersProposed) < order.index(VariantRequested)
    stage.close()


def test_snapshots_of_a_variant_say_where_it_comes_from(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path), seed=0).run()
    registry = CheckpointRegistry(tmp_path, run_id="evolving")
    best = registry.best
    assert best is not None
    lineage = registry.manifest(best).variant
    decided = {event.variant: event for event in of(stage.events, EvolutionDecided)[:2]}
    spawned = {event.variant: event for event in of(stage.events, VariantSpawned)}
    number = lineage["variant"]
    assert lineage == {
        "variant": number,
        "parent": spawned[number].snapshot_id,
        "noise_scale": decided[number].noise_scale,
        "weight_noise": decided[number].weight_noise,
        "seed": decided[number].seed,
    }
    stage.close()


def test_the_ensemble_is_weighed_by_validation_scores_and_pruned_down_to_its_limit(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path, max_ensemble_size=2), seed=0).run()
    weighed = of(stage.events, EnsembleReweighted)
    assert [sorted(event.weights) for event in weighed] == [["0"], ["0", "1"], ["1", "2"]]
    scores = weighed[1].scores
    assert weighed[1].weights == pytest.approx(
        {key: 2 * value / sum(scores.values()) for key, value in scores.items()}
    )
    (pruned,) = of(stage.events, VariantPruned)
    assert weighed[1].weights["0"] < weighed[1].weights["1"]
    assert pruned.variant == 0
    stage.close()


@pytest.mark.parametrize("lookahead", [0, 1])
def test_new_nodes_go_on_from_any_boundary_of_a_plateau_with_the_same_bytes(
    lookahead: int, tmp_path: Path
) -> None:
    def build() -> Mapping[str, Node]:
        return world(tmp_path, lookahead=lookahead, max_ensemble_size=2)

    whole = Stage(build, seed=3)
    boundaries = whole.run_with_boundaries()
    assert of(whole.events, VariantSpawned)
    last = boundaries[-1]
    whole.close()
    # From the second plateau to what follows from it: there is a variant already, and one to come.
    second = whole.events.index(of(whole.events, Dormant)[1])
    there = whole.events.index(of(whole.events, VariantSpawned)[1]) + 4
    for boundary in boundaries[second - 1 : there]:
        stage = Stage.at(build, boundary, seed=3)
        assert stage.states() == boundary.states, f"after event {boundary.sequence}"
        if boundary is not last:
            stage.run()
        assert stage.stream == whole.stream[boundary.sequence :], f"from event {boundary.sequence} on"
        assert stage.states() == last.states
        stage.close()


def test_a_person_who_stops_the_run_between_plateaus_is_obeyed_and_hears_the_report(tmp_path: Path) -> None:
    stage = Stage(lambda: world(tmp_path), seed=0)
    while not of(stage.events, VariantSpawned):
        stage.step()
    stage.queue.appendleft(("supervisor", 0, 9, StopRequested(reason="enough")))
    stage.run()
    assert isinstance(stage.finished, RunFinished)
    assert stage.finished.reason == "enough"
    assert any("Spawns used          1 / 2" in line for line in stage.finished.report)
    stage.close()


def test_weight_noise_for_an_agent_that_cannot_be_perturbed_is_said(tmp_path: Path) -> None:
    class Fixed(Level):
        perturb_weights = Scripted.perturb_weights

    with pytest.raises(ConfigurationError, match="weight_noise: 0"):
        Stage(lambda: world(tmp_path, kind=Fixed), seed=0).run()


# In Python, with callbacks and agents of one's own.


def optimizer(tmp_path: Path, agent: Any, **options: Any) -> RLOptimizer:
    return RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=Corridor(), window_size=20),
        val_pipeline=BatchPipeline(env=Corridor(), window_size=20),
        val_episodes=2,
        checkpoint_dir=tmp_path / "checkpoints",
        optimizer=False,
        max_episodes=60,
        **{**PLATEAU, **options},
    )


SCRIPT = [1, 3, 5, *[6] * 40]


def manager(tmp_path: Path, **options: Any) -> PolicyManager:
    return PolicyManager(CheckpointRegistry(tmp_path / "own"), **options)


def test_a_callback_keeps_the_loop_going_and_the_agent_ends_with_the_best(tmp_path: Path) -> None:
    agent, pm = Scripted(SCRIPT), manager(tmp_path, max_spawns=2)
    opt = optimizer(tmp_path, agent)
    callback = pm.as_callback(agent)
    callback.set_stop_fn(opt.stop)
    opt.add_callback(callback)
    finished = opt.run()
    assert (finished.reason, finished.decided_by_loop) == ("converged", True)
    assert (pm.status()["spawns_used"], pm.budget_exhausted) == (2, True)
    assert agent.level == 6
    assert agent.params["learning_rate"] != 0.1
    assert any("Spawns used          2 / 2" in line for line in finished.report)
    assert opt.best_snapshot is not None
    assert pm.lineages[0].parent == opt.best_snapshot.snapshot_id


def test_with_a_factory_what_has_come_to_its_plateau_stays_in_the_ensemble(tmp_path: Path) -> None:
    agent, made = Scripted(SCRIPT), []

    def factory() -> Scripted:
        made.append(Scripted([0]))
        return made[-1]

    pm = manager(tmp_path, max_spawns=3, max_ensemble_size=3)
    pm.add_agent(agent)
    opt = optimizer(tmp_path, agent)
    torn: list[Any] = []
    for shell in (Scripted,):
        shell.teardown = lambda self: torn.append(self)  # type: ignore[method-assign]
    try:
        opt.add_callback(pm.as_callback(agent, agent_factory=factory))
        opt.run()
    finally:
        del Scripted.teardown
    assert len(made) == 3
    assert [shell.level for shell in made] == [6, 6, 6]
    assert pm.ensemble_size == 3
    assert agent in pm.agents
    assert pm.status()["pruned"] == 1
    assert sum(each in made for each in torn) == 1


def test_without_budget_and_factory_nothing_is_spawned_and_the_run_ends(tmp_path: Path) -> None:
    agent, pm = Scripted(SCRIPT), manager(tmp_path)
    finished = optimizer(tmp_path, agent, callbacks=[pm.as_callback(agent)]).run()
    assert finished.reason == "converged"
    assert pm.lineages == []
    assert any("neither a budget nor a factory" in line for line in finished.report)


def test_a_policy_that_is_worse_than_the_best_is_rolled_back_at_the_plateau(tmp_path: Path) -> None:
    agent, levels = Scripted([1, 3, 9, *[7] * 40]), []

    class Watch(LoopCallback):
        def on_dormant(self, episode_id: int) -> None:
            levels.append(agent.level)

    pm = manager(tmp_path, max_spawns=0)
    optimizer(
        tmp_path, agent, callbacks=[Watch(), pm.as_callback(agent), Watch()], min_consecutive_degradations=99
    ).run()
    assert levels == [7, 9]


def test_a_controller_of_the_users_own_decides_and_one_that_raises_ends_the_run_in_order(
    tmp_path: Path,
) -> None:
    class Twice(MetaController):
        asked = 0

        def decide(self, metrics_history: Any, pm_status: Any) -> MetaAction:
            self.asked += 1
            assert metrics_history[-1].metrics["val_score"] == metrics_history[-1].primary_score
            return MetaAction.SPAWN if self.asked < 3 else MetaAction.NO_OP

    class Broken(MetaController):
        def decide(self, metrics_history: Any, pm_status: Any) -> MetaAction:
            raise RuntimeError("no idea")

    for controller, spawns in ((Twice(), 2), (Broken(), 0)):
        agent = Scripted(SCRIPT)
        pm = manager(tmp_path / type(controller).__name__)
        callback = pm.as_callback(agent, meta_controller=controller)
        finished = optimizer(tmp_path / type(controller).__name__, agent, callbacks=[callback]).run()
        assert (finished.reason, len(pm.lineages)) == ("converged", spawns)


def test_an_ensemble_in_the_loop_is_saved_whole_and_spawns_members(tmp_path: Path) -> None:
    first, second = Scripted(SCRIPT), Scripted([4])
    pm = manager(tmp_path, max_spawns=1)
    pm.add_agent(first, weight=3.0)  # of whole numbers the one with most weight behind it is the best guess
    pm.add_agent(second)
    ensemble = EnsembleAgent(pm, primary_agent=first)
    callback = pm.as_callback(first, agent_factory=lambda: Scripted([0]))
    optimizer(tmp_path, ensemble, callbacks=[callback]).run()
    assert pm.ensemble_size == 3
    assert [agent.level for agent in pm.agents[:2]] == [6, 4]
    assert pm.agents[2].level == 6
