"""A run whose variants are trained by nodes of their own, inline: what it does and leaves, and its replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodes.variant_learner import VariantLearnerNode
from nodes.variant_pipeline import VariantPipelineNode
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import replay
from optix_bus.runtime.roster import Roster
from optix_bus.runtime.topology import TopologyError, load_topology
from tests.runtime.recorded import ROOT, attempt, body, record, records

BESIDE = ROOT / "tests" / "runtime" / "beside.yaml"
NODES = ("validation", "pipeline", "learner", "evaluator")
VALIDATION = (
    "  validation: {node: nodes.pipeline:PipelineNode, role: validation, environments: 2, episodes: 2}\n"
)
WHOLE = (
    "nodes.scheduler.max_episodes=60",
    "nodes.scheduler.cut_windows=3",
    "nodes.pipeline.window_steps=20",
    "nodes.pipeline.environments=1",
)


def nodes_of(variant: int) -> list[str]:
    return [f"variant-{variant}-{name}" for name in NODES]


@pytest.fixture(scope="module")
def torn() -> list[str]:
    """Which nodes of variants were torn down while the run was made, in their order."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, torn: list[str]) -> RecordedRun:
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    for kind in (VariantPipelineNode, VariantLearnerNode):
        whole = kind.teardown

        def teardown(self: Any, whole: Any = whole, kind: Any = kind) -> None:
            torn.append(f"{self.variant} {kind.__name__} {getattr(self, '_role', '')}".strip())
            whole(self)

        patch.setattr(kind, "teardown", teardown)
    try:
        return record(tmp_path_factory.mktemp("beside") / "run", BESIDE, *WHOLE)
    finally:
        patch.undo()


def told(run: RecordedRun, kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [body(found) for found in records(run, kind, **fields)]


def test_nodes_of_a_variant_join_at_its_plateau_and_begin_with_the_best_and_its_hyperparameters(
    run: RecordedRun,
) -> None:
    decided = told(run, "EvolutionDecided", action="spawn")
    assert [event["variant"] for event in decided] == [1, 2]
    for decision, admitted in zip(decided, records(run, "VariantAdmitted"), strict=True):
        number = decision["variant"]
        assert body(admitted)["nodes"] == nodes_of(number)
        (seeded,) = told(run, "VariantSeeded", variant=number)
        before = [found for found in records(run, "SnapshotSaved") if found.seq < admitted.seq]
        assert seeded["snapshot_id"] == body(before[-1])["snapshot_id"]
        first = told(run, "VariantUpdated", variant=number)[0]
        assert first["version"] == number * 10**9
        assert first["params"] == decision["params"] != told(run, "HyperparametersChanged")[0]["params"]
    assert run.plan.of_process("variant-2")[0].name == "variant-2-validation"


def test_every_window_is_learnt_from_and_scored_by_all_that_are_there(run: RecordedRun) -> None:
    spawned = [event["window"] for event in told(run, "VariantAdmitted")]
    roster = {1: (spawned[0] + 1, spawned[1]), 2: (spawned[1] + 1, told(run, "CollectWindow")[-1]["window"])}
    for number, (first, last) in roster.items():
        windows = list(range(first, last + 1))
        assert [e["window"] for e in told(run, "VariantUpdated", variant=number)] == [first - 1, *windows]
        assert [e["window"] for e in told(run, "VariantScored", variant=number, purpose="score")] == windows
        trained = told(run, "VariantCollected", variant=number, purpose="train")
        # Each acts with its own newest policy.
        assert [e["policy_version"] for e in trained] == [number * 10**9 + n for n in range(len(windows))]
    for judged in records(run, "WindowJudged"):
        window = body(judged)["window"]
        scored = records(run, "VariantScored", window=window, purpose="score")
        assert all(found.seq < judged.seq for found in scored)


def test_nobody_answers_what_is_meant_for_another(run: RecordedRun) -> None:
    assert {found.node for found in records(run, "WindowCollected")} == {"pipeline", "validation"}
    assert {found.node for found in records(run, "PolicyUpdated")} == {"learner"}
    for kind in ("VariantUpdated", "VariantCollected", "VariantScored"):
        for found in records(run, kind):
            assert found.node in nodes_of(body(found)["variant"])


def test_a_variant_that_is_better_is_the_best_of_the_run_and_its_snapshot_says_whose_it_is(
    run: RecordedRun,
) -> None:
    (finished,) = told(run, "RunFinished")
    scores = told(run, "VariantScored", purpose="confirm")
    assert finished["best_score"] == max(e["score"] for e in scores) > 600.0
    assert finished["best_policy_version"] // 10**9 == 2
    registry = CheckpointRegistry(str(run.directory.checkpoints), resume=True)
    best = registry.best
    assert best is not None
    (seeded,) = told(run, "VariantSeeded", variant=2)
    lineage = registry.manifest(best).variant
    assert (lineage["variant"], lineage["parent"]) == (2, seeded["snapshot_id"])
    restored = told(run, "PolicyUpdated", origin="restored")[-1]
    rolled = told(run, "RolledBack", final=True)[-1]
    assert rolled["policy_version"] == finished["best_policy_version"]
    assert restored["policy"]["bytes"] == rolled["policy"]["bytes"]


def test_the_learner_has_not_degraded_because_a_variant_is_better(run: RecordedRun) -> None:
    assert records(run, "Degraded") == []


def test_while_a_variant_gets_better_the_run_does_not_come_to_its_end(run: RecordedRun) -> None:
    plateaus = [event["window"] for event in told(run, "Dormant")]
    first, second = plateaus[1] - plateaus[0], plateaus[2] - plateaus[1]
    # The first one's gain was within the margin of noise, so that dormant_threshold counted on.
    assert (first, second > first) == (4, True)


def test_weights_follow_scores_and_who_is_pruned_leaves_when_its_window_is_done(
    run: RecordedRun, torn: list[str]
) -> None:
    weighed = told(run, "EnsembleReweighted")
    assert [sorted(event["weights"]) for event in weighed] == [["0"], ["0", "1"], ["0", "2"], ["0", "2"]]
    last = weighed[-1]
    assert last["weights"]["2"] > last["weights"]["0"]
    scores = [e["score"] for e in told(run, "VariantScored", variant=2, purpose="score")]
    assert last["scores"]["2"] == pytest.approx(sum(scores[-10:]) / len(scores[-10:]))
    (pruned,) = told(run, "VariantPruned")
    (dismissed,) = records(run, "VariantDismissed")
    assert (pruned["variant"], body(dismissed)["nodes"]) == (1, nodes_of(1))
    assert [f for f in records(run) if f.node in nodes_of(1) and f.seq > dismissed.seq] == []
    # In the order opposite to that in which they came; the others at the end of the run.
    order = ["VariantLearnerNode", "VariantPipelineNode train", "VariantPipelineNode validation"]
    assert torn == [f"{number} {name}" for number in (1, 2) for name in order]


def test_the_report_names_the_variants(run: RecordedRun) -> None:
    (finished,) = told(run, "RunFinished")
    text = "\n".join(finished["report"])
    for said in ("Spawns used          2 / 2", "Pruned agents        1", "[2] weight=", "trained to the end"):
        assert said in text
    (dismissed,) = told(run, "VariantDismissed")
    assert f"pruned at window {dismissed['window']}: the ensemble holds at most 2" in text


def test_a_cut_says_which_nodes_belong_to_the_run(run: RecordedRun) -> None:
    base = {node.name for node in run.plan.nodes}
    seen = []
    for announced in records(run, "CutAnnounced"):
        more = body(announced).get("nodes", [])
        taken = {e["node"] for e in told(run, "CutTaken", cut=body(announced)["cut"])}
        assert taken == base | set(more)
        seen.append(sorted({name.split("-")[1] for name in more}))
    assert seen[:6] == [[], [], [], ["1"], ["2"], ["2"]]
    assert Roster.of(run.records()).variants == {1: records(run, "VariantDismissed")[0].seq, 2: 0}


def test_all_of_it_is_reproduced_from_its_beginning_and_from_every_cut(run: RecordedRun) -> None:
    report = replay(run)
    assert (report.exit_code, report.divergence, report.unrecorded) == (0, None, [])
    assert set(nodes_of(1) + nodes_of(2)) <= set(report.nodes)
    assert report.outputs == sum(bool(found.cause) for found in run.records())
    for cut in run.complete_cuts(run.head):
        report = replay(run, first=cut.sequence + 1)
        assert (report.exit_code, report.divergence, report.since) == (0, None, cut.sequence)


@pytest.mark.parametrize("node", ["variant-2-learner", "variant-1-validation", "scheduler", "checkpoint"])
def test_every_node_is_played_alone(node: str, run: RecordedRun) -> None:
    report = replay(run, [node])
    assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")
    assert report.outputs == sum(found.node == node for found in run.records() if found.cause)


def test_agents_of_six_methods_have_variants_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes of a variant share an agent, which is another than that of the topology."""
    monkeypatch.chdir(ROOT)
    evolving = ROOT / "tests" / "runtime" / "evolving.yaml"
    whole = ("agent.class=tests.nodes.worlds:Whole", "nodes.policy_manager.variants=nodes")
    made = record(tmp_path / "run", evolving, *WHOLE, *whole)
    assert [e["variant"] for e in told(made, "VariantAdmitted")] == [1, 2]
    learnt = told(made, "VariantUpdated", variant=1)
    assert [e["version"] for e in learnt] == [10**9 + n for n in range(len(learnt))]
    report = replay(made)
    assert (report.exit_code, report.divergence) == (0, None)


def refused(tmp_path: Path, old: str, new: str) -> str:
    text = BESIDE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "other.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(TopologyError) as failure:
        load_topology(tmp_path / "other.yaml", build_environment=False)
    (problem,) = failure.value.problems
    assert problem.line
    return f"{problem.message} {problem.suggestion}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    cut_windows: 3\n", "    lookahead: 1\n", "write lookahead: 0"),
        (VALIDATION, "", "needs a validation pipeline"),
        ("nodes.learner:LearnerNode", "tests.runtime.climbing:OwnLearner", "no counterpart for variants"),
        ("max_ensemble_size: 2", "max_ensemble_size: 1", "expected 2 at least"),
        ("  learner:    ", "  variant-1-learner: ", "those of variants"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert said in refused(tmp_path, old, new)


def test_a_plan_knows_the_nodes_of_every_variant_and_no_more_where_variants_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = make_plan(load_topology(BESIDE, build_environment=False), run_id="x", run_directory=tmp_path)
    assert [node.name for node in plan.of_process("variant-12")] == nodes_of(12)
    assert {node.variant for node in plan.of_variant(12)} == {12}
    named = plan.named(["variant-2-learner", "learner", "variant-1-pipeline", "unknown"])
    assert [node.name for node in named] == ["learner", "variant-1-pipeline", "variant-2-learner"]
    assert all("variant" not in name for name in plan.lasting)
    plan.write(tmp_path / "plan.json")
    assert RunPlan.read(tmp_path / "plan.json") == plan
    without = msgspec.structs.replace(plan, variant_nodes=[])
    assert (without.of_process("variant-1"), without.named(["variant-1-learner"])) == ([], [])


def test_a_run_that_fails_in_a_variant_says_whose_node_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    def broken(self: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(VariantPipelineNode, "setup", broken)
    outcome = attempt(tmp_path / "run", BESIDE, *WHOLE)
    assert outcome.exit_code == 3
    assert "'variant-1-validation' failed in setup: RuntimeError: no room" in outcome.reason
