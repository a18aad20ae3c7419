"""Our nodes pass the contract that users' nodes pass, and nodes that break it do not."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from nodes.callbacks import CallbackNode
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
from optix_bus.agents import make_agent
from optix_bus.errors import NodeFailure
from optix_bus.messages import (
    AgentDescribed,
    CollectWindow,
    CutAnnounced,
    Dormant,
    EvaluationRequested,
    Event,
    EvolutionDecided,
    EvolutionReported,
    HyperparametersChanged,
    HyperparametersProposed,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RolledBack,
    RunStarted,
    StopRequested,
    VariantAdmitted,
    VariantCollected,
    VariantDismissed,
    VariantEvaluationRequested,
    VariantPruned,
    VariantRequested,
    VariantScored,
    VariantSeeded,
    VariantSpawned,
    VariantUpdated,
    WindowCollected,
    WindowJudged,
    WindowScored,
)
from optix_bus.pipelines import make_pipeline
from optix_bus.runtime.node import Context, Node, handles
from optix_bus.testing.node_contract import NodeContract
from optix_bus.types import ArraySpec, EpisodeData, NamedArrays, SpaceSpec

SPACES = SpaceSpec("CartPole-v1", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2))


def agent(seed=1):
    return make_agent(SPACES, hidden_sizes=(8,), device="cpu", seed=seed, hyperparams={"n_epochs": 1})


def window(number, steps=24):
    """Experience of two environments in which episodes end."""
    rng = np.random.default_rng(number)
    shape = (steps, 2)
    ends = np.zeros(shape, bool)
    ends[11::12] = True
    starts = np.zeros(shape, bool)
    starts[::12] = True
    return EpisodeData(
        observations=rng.standard_normal((*shape, 4)).astype(np.float32),
        actions=rng.integers(0, 2, shape),
        rewards=rng.standard_normal(shape).astype(np.float32),
        terminated=ends,
        truncated=np.zeros(shape, bool),
        infos=[{} for _ in range(steps)],
        episode_id=number,
        timestamp=0.0,
        final_observations=rng.standard_normal((*shape, 4)).astype(np.float32),
        episode_starts=starts,
    )


def collected(store, number, role="train", purpose="train", **more):
    told: dict[str, Any] = {
        "window": number,
        "policy_version": number,
        "hyperparams_version": 0,
        "evaluate": True,
        "steps": 48,
        "total_steps": 48 * (number + 1),
        "episodes": 4,
        **more,
    }
    ref = store.write(f"{role}/{purpose}-{number:06d}", window(number))
    return WindowCollected(role=role, purpose=purpose, data=ref, **told)


def learnt(store, version, **more):
    ref = store.write(f"learner/policy-{version:06d}", agent(version + 1).state())
    origin = "learned" if version else "initial"
    told: dict[str, Any] = {"window": version - 1, "hyperparams_version": 0, "origin": origin, **more}
    return PolicyUpdated(version=version, policy=ref, **told)


def scored(number, score, **more):
    told: dict[str, Any] = {
        "purpose": "score",
        "policy_version": number,
        "hyperparams_version": 0,
        "learnt_with": 0,
        "n": 20,
        "standard_error": 1.0,
        "std": 4.5,
        "train_score": score,
        "generalization_gap": float("nan"),
        **more,
    }
    return WindowScored(window=number, score=score, **told)


def judged(number, verdict="improved"):
    return WindowJudged(
        window=number,
        policy_version=number,
        verdict=verdict,
        state="active",
        interval=1,
        score=float(number),
        standard_error=1.0,
        smoothed=float(number),
        margin=0.0,
        best_score=float(number),
        best_policy_version=number,
        steps=48,
    )


BOUNDS = AgentDescribed(
    is_on_policy=True,
    min_episodes_before_dormant=0,
    param_bounds={"learning_rate": (1e-5, 1e-2)},
    log_params=("learning_rate",),
)
FIRST_PARAMS = HyperparametersChanged(version=0, window=-1, params={"learning_rate": 3e-4}, changed=True)


class TestScheduler(NodeContract):
    node_class = SchedulerNode
    settings: ClassVar[dict[str, Any]] = {"max_episodes": 3}

    def events(self, store):
        yield BOUNDS
        yield FIRST_PARAMS
        yield learnt(store, 0)
        for number, score in enumerate((10.0, 12.0, float("nan"))):
            yield collected(store, number)
            yield learnt(store, number + 1)
            yield scored(number, score)
            if score == score:
                yield scored(number, score, purpose="confirm")
        yield learnt(store, 4, origin="restored")


class TestEvolvingScheduler(TestScheduler):
    has_evolution = True
    settings: ClassVar[dict[str, Any]] = {
        "max_episodes": 6,
        "convergence": "classical",
        "convergence_window": 5,
        "looks": 1,
        "dormant_threshold": 1,
        "score_smoothing": 1,
        "score_floor": 0.0,
    }

    def events(self, store):
        yield BOUNDS
        yield FIRST_PARAMS
        yield learnt(store, 0)
        for number in range(5):
            yield collected(store, number)
            yield learnt(store, number + 1)
            yield scored(number, 10.0)
            if number == 0:
                yield scored(number, 10.0, purpose="confirm")
        yield EvolutionDecided(window=4, action="spawn", reason="a plateau", variant=1)
        yield learnt(store, 6, window=4, origin="variant")
        yield collected(store, 5)
        yield learnt(store, 7, window=5)
        yield scored(5, 10.0)
        yield EvolutionReported(window=5, lines=("Spawns used",))
        yield learnt(store, 8, origin="restored")


class TestSchedulerOfVariants(TestScheduler):
    """One variant with nodes of its own becomes the best, and is dismissed."""

    has_evolution = True
    has_variant_nodes = True
    settings = TestEvolvingScheduler.settings

    def events(self, store):
        yield from list(TestEvolvingScheduler.events(self, store))[:-6]
        yield EvolutionDecided(window=4, action="spawn", reason="a plateau", variant=1)
        yield self.updated(store, 0)
        yield collected(store, 5)
        yield learnt(store, 6, window=5)
        yield scored(5, 10.0)
        yield self.updated(store, 1)
        yield self.scored("score", 12.0)
        yield VariantPruned(window=5, variant=1, weight=1.0, reason="the worst")
        yield self.scored("confirm", 11.0)
        yield EvolutionReported(window=5, lines=("Spawns used",))
        yield learnt(store, 7, origin="restored")

    def updated(self, store, number):
        ref = store.write(f"variant-1-learner/policy-{number:06d}", agent(number + 1).state())
        params = {"learning_rate": 1e-3}
        return VariantUpdated(variant=1, version=10**9 + number, window=4 + number, policy=ref, params=params)

    def scored(self, purpose, score):
        return VariantScored(
            variant=1,
            purpose=purpose,
            window=5,
            policy_version=10**9,
            score=score,
            n=4,
            standard_error=1.0,
            std=2.0,
        )


class TestPolicyManager(NodeContract):
    node_class = PolicyManagerNode
    settings: ClassVar[dict[str, Any]] = {"max_spawns": 2, "max_ensemble_size": 1, "weight_noise": 0.5}

    def events(self, store):
        yield BOUNDS
        yield Dormant(window=0, reason="nobody was promoted")
        for number in range(3):
            yield PolicyPromoted(
                policy_version=3 * number,
                window=3 * number,
                hyperparams_version=0,
                score=10.0,
                n=20,
                standard_error=1.0,
                params={"learning_rate": 3e-4},
            )
            for window in range(3 * number, 3 * number + 3):
                yield scored(window, 10.0 + window % 2, generalization_gap=0.5)
            yield Dormant(window=3 * number + 2, reason="plateau")
            yield learnt(store, 3 * number + 3, origin="variant")
        yield RollbackRequested(window=9, reason="converged", final=True)


class TestPolicyManagerOfNodes(TestPolicyManager):
    settings: ClassVar[dict[str, Any]] = {"max_spawns": 3, "max_ensemble_size": 2, "variants": "nodes"}

    def events(self, store):
        for event in super().events(store):
            yield event
            if isinstance(event, Dormant):
                yield VariantScored(
                    variant=1,
                    purpose="score",
                    window=event.window + 1,
                    policy_version=10**9,
                    score=12.0,
                    n=4,
                    standard_error=1.0,
                    std=2.0,
                )


class TestEvaluator(NodeContract):
    node_class = EvaluatorNode

    def events(self, store):
        yield learnt(store, 0)
        yield collected(store, 0)
        yield learnt(store, 1)
        yield collected(store, 0, "validation", "score")
        yield collected(store, 0, "validation", "confirm", hyperparams_version=-1)


class TestOptimizer(NodeContract):
    node_class = OptimizerNode
    has_optimizer = True

    def events(self, store):
        yield BOUNDS
        yield FIRST_PARAMS
        for number in range(6):
            yield scored(number, float(number % 3))
            yield judged(number, "plateaued" if number == 4 else "improved")


class TestCheckpoint(NodeContract):
    node_class = CheckpointNode
    settings: ClassVar[dict[str, Any]] = {"max_snapshots": 2}

    def events(self, store):
        yield RollbackRequested(window=0, reason="degradation")
        for number in range(3):
            yield learnt(store, number)
            yield CollectWindow(window=number, policy_version=number, hyperparams_version=0, evaluate=True)
            yield PolicyPromoted(
                policy_version=number,
                window=number,
                hyperparams_version=0,
                score=float(number),
                n=20,
                standard_error=1.0,
                params={"learning_rate": 3e-4},
            )
        yield VariantRequested(window=2, variant=1, params={"learning_rate": 1e-4}, noise_scale=0.1)
        yield learnt(store, 3, origin="variant")
        yield PolicyPromoted(
            policy_version=3, window=3, hyperparams_version=1, score=9.0, n=20, standard_error=1.0
        )
        yield RollbackRequested(window=3, reason="converged", final=True)


class TestCheckpointOfVariants(TestCheckpoint):
    """Also those that have nodes of their own."""

    has_variant_nodes = True

    def events(self, store):
        yield from list(super().events(store))[:-1]
        yield VariantAdmitted(window=3, variant=2, nodes=("variant-2-learner",), params={}, noise_scale=0.1)
        for number in range(2):
            yield VariantUpdated(
                variant=2,
                version=2 * 10**9 + number,
                window=3 + number,
                policy=store.write(f"variant-2-learner/policy-{number:06d}", agent(9 + number).state()),
            )
            yield CollectWindow(window=4 + number, policy_version=3, hyperparams_version=1, evaluate=True)
        yield PolicyPromoted(
            policy_version=2 * 10**9, window=4, hyperparams_version=-1, score=11.0, n=20, standard_error=1.0
        )
        yield VariantDismissed(window=5, variant=2, nodes=("variant-2-learner",), reason="the worst")
        yield RollbackRequested(window=5, reason="converged", final=True)


class TestCallbacks(NodeContract):
    node_class = CallbackNode
    settings: ClassVar[dict[str, Any]] = {"callback": "optix_bus.interfaces:LoopCallback"}

    def events(self, store):
        yield RunStarted(run_id="contract", seed=7)
        yield CollectWindow(window=0, policy_version=0, hyperparams_version=0, evaluate=True)
        yield learnt(store, 1)
        yield scored(0, 10.0)
        yield judged(0)
        yield Dormant(window=0, reason="plateau")


class TestLearner(NodeContract):
    node_class = LearnerNode

    def make_agent(self):
        return agent()

    def events(self, store):
        yield RunStarted(run_id="contract", seed=7)
        yield collected(store, 0)
        yield HyperparametersProposed(window=0, params={"learning_rate": 1e-3}, changed=True)
        yield collected(store, 1, hyperparams_version=1)
        ref = store.write("checkpoint/best-000001", agent(5).state())
        yield RolledBack(window=1, final=False, policy=ref)
        yield VariantSpawned(
            window=1,
            variant=1,
            snapshot_id="00000001",
            params={"learning_rate": 2e-3},
            weight_noise=0.1,
            seed=5,
            policy=ref,
        )
        yield StopRequested()
        yield collected(store, 2, hyperparams_version=1)


class TestPipeline(NodeContract):
    node_class = PipelineNode
    role = "train"
    settings: ClassVar[dict[str, Any]] = {"environments": 2, "window_steps": 16}

    def make_pipeline(self, settings):
        return make_pipeline("CartPole-v1", {}, settings, role=self.role, seed=self.seed)

    def events(self, store):
        yield FIRST_PARAMS
        yield learnt(store, 0)
        for number in range(2):
            yield CollectWindow(window=number, policy_version=0, hyperparams_version=0, evaluate=True)


class TestValidation(TestPipeline):
    role = "validation"
    settings: ClassVar[dict[str, Any]] = {"environments": 2, "episodes": 3}

    def events(self, store):
        yield from super().events(store)
        yield EvaluationRequested(window=1, policy_version=0)


class _OfVariant(NodeContract):
    """The first of two variants; what is the other's is left alone."""

    variant = 1

    def updated(self, store, number, variant=1):
        agent_state = agent(number + 1).state()
        return VariantUpdated(
            variant=variant,
            version=variant * 10**9 + number,
            window=number,
            policy=store.write(f"variant-{variant}-learner/policy-{number:06d}", agent_state),
            params={"learning_rate": 1e-3},
        )

    def collected(self, store, number, role="train", variant=1):
        return VariantCollected(
            variant=variant,
            role=role,
            purpose="train" if role == "train" else "score",
            window=number,
            policy_version=variant * 10**9,
            evaluate=True,
            data=store.write(f"variant-{variant}-{role}/window-{number:06d}", window(number)),
            steps=48,
            total_steps=48,
            episodes=4,
        )


class TestVariantLearner(_OfVariant):
    node_class = VariantLearnerNode

    def make_agent(self):
        return agent()

    def events(self, store):
        ref = store.write("checkpoint/variant-000001", agent(5).state())
        for variant in (2, 1):
            yield VariantSeeded(
                window=1,
                variant=variant,
                snapshot_id="00000001",
                params={"learning_rate": 2e-3},
                weight_noise=0.1,
                seed=5,
                policy=ref,
            )
        yield self.collected(store, 2, variant=2)
        yield self.collected(store, 2)
        yield self.collected(store, 2, "validation")
        yield self.collected(store, 3)
        yield VariantDismissed(window=3, variant=1, nodes=("variant-1-learner",), reason="the worst")
        yield self.collected(store, 4)


class TestVariantPipeline(_OfVariant):
    node_class = VariantPipelineNode
    role = "train"
    settings: ClassVar[dict[str, Any]] = {"environments": 2, "window_steps": 16}

    def make_pipeline(self, settings):
        return make_pipeline("CartPole-v1", {}, settings, role=self.role, seed=self.seed)

    def events(self, store):
        yield self.asked(0)
        yield self.updated(store, 1, variant=2)
        yield self.updated(store, 1)
        yield self.asked(2)
        yield self.updated(store, 2)
        yield self.asked(3)
        yield VariantEvaluationRequested(variant=1, window=3, policy_version=10**9 + 2)
        yield VariantDismissed(window=3, variant=1, nodes=("variant-1-pipeline",), reason="the worst")
        yield self.asked(4)

    def asked(self, number):
        return CollectWindow(window=number, policy_version=7, hyperparams_version=3, evaluate=True)


class TestVariantValidation(TestVariantPipeline):
    role = "validation"
    settings: ClassVar[dict[str, Any]] = {"environments": 2, "episodes": 3}


class TestVariantEvaluator(_OfVariant):
    node_class = VariantEvaluatorNode

    def events(self, store):
        yield self.collected(store, 0)
        yield self.collected(store, 0, "validation", variant=2)
        yield self.collected(store, 0, "validation")


class CutCounter(Node):
    """Counts, and goes on counting from its state."""

    emits = (CutAnnounced,)

    def __init__(self, settings: Any) -> None:
        self.count = 0

    def state(self) -> NamedArrays:
        return NamedArrays({}, {"count": self.count})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        self.count = int(state.metadata["count"])
        return ()

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        self.count += 1
        ctx.emit(CutAnnounced(cut=self.count, window=int(ctx.rng("draw", self.count).integers(1000))))


class _Stops(NodeContract):
    def events(self, store):
        return [StopRequested() for _ in range(4)]


class TestANodeWithState(_Stops):
    node_class = CutCounter


def broken(name, node, settings=None):
    """Runs one test of the contract on a node that must not pass it."""
    contract = type("Broken", (_Stops,), {"node_class": node, "settings": settings or {}})()
    return getattr(contract, name)


def test_a_node_that_reads_the_clock_is_found_out(tmp_path):
    class Clock(CutCounter):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            ctx.emit(CutAnnounced(cut=time.perf_counter_ns(), window=0))

    with pytest.raises(AssertionError, match="answers to event 0"):
        broken("test_the_same_events_give_the_same_answers", Clock)(tmp_path)


def test_a_node_that_throws_dice_of_its_own_is_found_out(tmp_path):
    class Dice(CutCounter):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            ctx.emit(CutAnnounced(cut=random.getrandbits(60), window=0))

    with pytest.raises(AssertionError, match="answers to event 0"):
        broken("test_the_same_events_give_the_same_answers", Dice)(tmp_path)


def test_a_node_that_shares_memory_with_its_kind_is_found_out(tmp_path):
    class Shared(CutCounter):
        seen: ClassVar[list[int]] = []

        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            self.seen.append(1)
            ctx.emit(CutAnnounced(cut=len(self.seen), window=0))

    with pytest.raises(AssertionError, match="answers to event 0"):
        broken("test_the_same_events_give_the_same_answers", Shared)(tmp_path)


def test_a_node_that_decides_by_sequence_numbers_is_found_out(tmp_path):
    class Numbers(CutCounter):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            ctx.emit(CutAnnounced(cut=ctx.sequence, window=0))

    broken("test_the_same_events_give_the_same_answers", Numbers)(tmp_path / "a")
    with pytest.raises(AssertionError, match="answers to event 0"):
        broken("test_numbers_of_events_decide_nothing", Numbers)(tmp_path / "b")


def test_a_node_that_writes_other_arrays_each_time_is_found_out(tmp_path):
    class Noise(CutCounter):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            ctx.write_blob("noise", 1, NamedArrays({"x": np.array([time.perf_counter_ns()])}))

    with pytest.raises(AssertionError, match="node/noise-000001: x"):
        broken("test_the_same_events_give_the_same_answers", Noise)(tmp_path)


def test_a_node_that_emits_what_it_did_not_declare_is_found_out(tmp_path):
    class Sly(CutCounter):
        emits = (Dormant,)

    with pytest.raises(NodeFailure, match="which it does not declare"):
        broken("test_it_answers_with_what_it_declares_and_what_can_travel", Sly)(tmp_path)


def test_a_node_that_never_answers_although_it_declares_to_is_found_out(tmp_path):
    class Mute(CutCounter):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            self.count += 1

    with pytest.raises(AssertionError, match="never makes the node answer"):
        broken("test_it_answers_with_what_it_declares_and_what_can_travel", Mute)(tmp_path)


def test_an_event_that_is_too_large_is_found_out(tmp_path):
    class Loud(CutCounter):
        emits = (Dormant,)

        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            ctx.emit(Dormant(window=0, reason="x" * 70_000))

    with pytest.raises(AssertionError, match="too large: use write_blob"):
        broken("test_it_answers_with_what_it_declares_and_what_can_travel", Loud)(tmp_path)


def test_a_handler_that_is_typed_wrongly_is_found_out():
    class Wrong(Node):
        @handles(StopRequested)
        def on_stop(self, event: Dormant, ctx: Context) -> None: ...

    class Untyped(Node):
        @handles(StopRequested)
        def on_stop(self, event, ctx): ...

    class Answering(Node):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> int:  # type: ignore[type-var]
            return 1

    for node, message in (
        (Wrong, "does not say"),
        (Untyped, "lacks annotations"),
        (Answering, "return None"),
    ):
        with pytest.raises(AssertionError, match=message):
            broken("test_its_handlers_are_typed", node)()


def test_a_handler_of_several_types_names_them_all():
    class Both(Node):
        @handles(StopRequested, Dormant)
        def on_either(self, event: StopRequested | Dormant, ctx: Context) -> None: ...

    broken("test_its_handlers_are_typed", Both)()


def test_a_node_that_handles_nothing_or_declares_no_events_is_found_out():
    class Deaf(Node):
        emits = (CutAnnounced,)

    class Odd(CutCounter):
        emits = (int,)

    class Twice(CutCounter):
        emits = (CutAnnounced, CutAnnounced)

    for node in (Deaf, Odd, Twice):
        with pytest.raises(AssertionError):
            broken("test_it_declares_event_types_and_each_once", node)()


def test_settings_that_can_change_are_found_out():
    @dataclass
    class Loose:
        size: int = 1

    class Set(CutCounter):
        settings = Loose

    with pytest.raises(AssertionError, match="not frozen"):
        broken("test_its_settings_can_stand_in_a_topology", Set)()


def goes_on(node, folder):
    broken("test_it_goes_on_from_its_state", node)(folder)


def test_a_state_that_is_not_taken_back_is_found_out_and_the_place_is_named(tmp_path):
    class Forgetful(CutCounter):
        def load_state(self, state: NamedArrays) -> Sequence[str]:
            return ()

    with pytest.raises(AssertionError, match=r"before event 1: load_state\(\) lost .*\n.*'count': 1 and 0"):
        goes_on(Forgetful, tmp_path)


def test_a_node_that_remembers_more_than_its_state_holds_is_found_out(tmp_path):
    class Stateless(CutCounter):
        def state(self) -> NamedArrays:
            return NamedArrays({})

        def load_state(self, state: NamedArrays) -> Sequence[str]:
            return ()

    class Half(CutCounter):
        said = 0

        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            self.said += 1
            ctx.emit(CutAnnounced(cut=self.said, window=0))

    for name, node in (("none", Stateless), ("half", Half)):
        with pytest.raises(
            AssertionError, match=r"answers to event 1; a fresh node took over before event 1, and"
        ):
            goes_on(node, tmp_path / name)


def test_a_node_that_says_that_it_cannot_repeat_only_has_to_go_on(tmp_path):
    class Honest(CutCounter):
        repeats = False  # type: ignore[assignment]

        def load_state(self, state: NamedArrays) -> Sequence[str]:
            return ["the count starts anew"]

    goes_on(Honest, tmp_path)


def test_a_state_that_cannot_be_written_is_found_out(tmp_path):
    class Odd(CutCounter):
        def state(self) -> NamedArrays:
            return NamedArrays({}, {"count": {1, 2}})

    class Plain(CutCounter):
        def state(self) -> NamedArrays:
            return {"count": 1}  # type: ignore[return-value]

    class Silent(CutCounter):
        def load_state(self, state: NamedArrays) -> None:  # type: ignore[override]
            super().load_state(state)

    with pytest.raises(AssertionError, match=r"state\(\) cannot be written: .*JSON"):
        goes_on(Odd, tmp_path / "odd")
    with pytest.raises(AssertionError, match=r"returned dict, expected NamedArrays"):
        goes_on(Plain, tmp_path / "plain")
    with pytest.raises(AssertionError, match=r"returned None, expected remarks for people"):
        goes_on(Silent, tmp_path / "silent")


def test_a_state_with_a_stamp_or_a_number_of_an_event_is_found_out(tmp_path):
    class Dated(CutCounter):
        at = 0.0

        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            self.at = self.note(ctx)

        def note(self, ctx: Context) -> float:
            return ctx.now

        def state(self) -> NamedArrays:
            return NamedArrays({}, {"at": self.at})

    class Numbered(Dated):
        def note(self, ctx: Context) -> float:
            return ctx.sequence

    for name, node in (("dated", Dated), ("numbered", Numbered)):
        with pytest.raises(AssertionError, match=r"(?s)no stamp, no sequence number.*metadata 'at'"):
            broken("test_its_state_depends_on_events_alone", node)(tmp_path / name)


def test_events_that_the_node_does_not_handle_are_named(tmp_path):
    class Other(CutCounter):
        _handlers: ClassVar[dict[type[Event], str]] = {}

        @handles(Dormant)
        def on_dormant(self, event: Dormant, ctx: Context) -> None: ...

    Other._handlers.pop(StopRequested, None)
    with pytest.raises(AssertionError, match="events\\(\\) gives StopRequested"):
        broken("test_the_same_events_give_the_same_answers", Other)(tmp_path)
