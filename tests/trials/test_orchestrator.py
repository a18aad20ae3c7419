"""The search over trials: isolation, budgets, failures, interrupts and what comes back."""

from __future__ import annotations

import gc
import importlib.util

import optuna
import pytest

import optix_bus
from optix_bus import LoopCallback, TrialOrchestrator
from optix_bus.errors import ConfigurationError, MissingExtra, NodeFailure
from tests.trials.worlds import Grower, Meadow, pipeline

SPACE = {"height": ("float", 0.0, 10.0)}


@pytest.fixture(autouse=True)
def fresh():
    Meadow.opened.clear()
    Grower.torn_down.clear()
    yield
    Meadow.opened.clear()
    Grower.torn_down.clear()
    gc.collect()


def search(folder, agent_factory=Grower, pipeline_factory=pipeline, space=SPACE, **options):
    options = {"n_trials": 6, "trial_steps": 80, "verbose": False, **options}
    return TrialOrchestrator(
        agent_factory, pipeline_factory, space, checkpoint_dir=folder / "trials", **options
    )


def test_the_best_settings_come_back_with_score_and_weights(tmp_path):
    orchestrator = search(tmp_path, n_trials=16, prune=False)
    best_params, best_score = best = orchestrator.run()
    assert best_params["height"] > 8.0
    assert best_score == orchestrator.best_score == pytest.approx(4 * 0.9 * best_params["height"], rel=1e-5)
    assert best["height"] == orchestrator.best_params["height"] == orchestrator.study.best_params["height"]
    again = Grower({})
    again.load_weights(orchestrator.best_weights_path)
    assert again.params["height"] == best_params["height"]
    assert [row.state for row in orchestrator.trials] == ["complete"] * 16


def test_every_trial_has_its_own_folder_agent_and_environments_and_leaves_none_open(tmp_path):
    made = []

    def agent(params):
        made.append(Grower(params))
        return made[-1]

    orchestrator = search(tmp_path, agent, n_trials=3, val_pipeline_factory=pipeline, prune=False)
    orchestrator.run()
    assert len({id(each) for each in made}) == 3
    assert set(made) <= set(Grower.torn_down)
    assert len(Meadow.opened) == 6
    assert all(world.closed for world in Meadow.opened)
    folders = sorted(path.name for path in orchestrator.run_ckpt_dir.iterdir())
    assert folders == ["trial-0000", "trial-0001", "trial-0002"]


def test_the_budget_is_in_steps_or_in_windows(tmp_path):
    by_steps = search(tmp_path / "steps", n_trials=2, trial_steps=50)
    by_steps.run()
    assert [row.steps for row in by_steps.trials] == [56, 56]  # to the end of the window that reaches it
    by_windows = search(tmp_path / "windows", n_trials=2, trial_steps=None, trial_episodes=5)
    by_windows.run()
    assert [row.steps for row in by_windows.trials] == [40, 40]
    with pytest.raises(ConfigurationError, match="one budget"):
        search(tmp_path, trial_steps=50, trial_episodes=5)


def test_hopeless_trials_are_ended_early_and_leave_no_doubt_about_the_best(tmp_path):
    orchestrator = search(tmp_path, n_trials=24, trial_steps=160, n_startup_trials=24)
    best = orchestrator.run()
    rows = orchestrator.trials
    pruned = [row for row in rows if row.state == "pruned"]
    assert len(pruned) >= 5
    assert all(24 <= row.steps < 160 for row in pruned)
    assert best["height"] == max(row.params["height"] for row in rows)


def test_a_trial_that_raises_is_failed_and_closed_and_the_study_goes_on(tmp_path):
    calls = []

    def agent(params):
        calls.append(params)
        if len(calls) == 1:
            raise RuntimeError("no more memory")
        if len(calls) == 3:
            params = {"height": float("nan")}
        return Grower(params)

    def flooded():
        return optix_bus.BatchPipeline(env=Meadow(breaks_at=20 if len(calls) == 2 else None), window_size=8)

    orchestrator = search(tmp_path, agent, flooded, n_trials=5)
    orchestrator.run()
    rows = orchestrator.trials
    assert [row.state for row in rows] == ["failed"] * 3 + ["complete"] * 2
    assert rows[0].reason == "RuntimeError: no more memory"
    assert "the meadow is flooded" in rows[1].reason
    assert "the policy answered NaN" in rows[2].reason
    assert all(world.closed for world in Meadow.opened)


def test_where_every_trial_fails_the_reason_is_named(tmp_path):
    def broken(params):
        raise ValueError("hidden_sizes is missing")

    with pytest.raises(NodeFailure, match="ValueError: hidden_sizes is missing"):
        search(tmp_path, broken, n_trials=2).run()


def test_a_trial_in_which_no_episode_ends_has_no_score(tmp_path):
    orchestrator = search(tmp_path, pipeline_factory=lambda: pipeline(window_size=3), trial_steps=3)
    with pytest.raises(NodeFailure, match="no episode ended"):
        orchestrator.run()


def test_an_interrupt_keeps_what_is_done_and_gives_up_what_is_not(tmp_path):
    class Impatient(LoopCallback):
        heard = 0

        def on_episode_end(self, episode_id, eval_metrics):
            Impatient.heard += 1
            if Impatient.heard == 25:
                raise KeyboardInterrupt

    options = {"storage": str(tmp_path / "s.journal"), "prune": False}
    orchestrator = search(tmp_path, n_trials=4, rloptimizer_kwargs={"callbacks": [Impatient()]}, **options)
    best = orchestrator.run()
    assert orchestrator.interrupted
    assert [row.state for row in orchestrator.trials] == ["complete", "complete", "failed"]
    assert best.score == max(row.score for row in orchestrator.trials[:2])
    assert all(world.closed for world in Meadow.opened)
    # The one that was given up was not at fault: the study is carried on to four that were run.
    again = search(tmp_path, n_trials=4, **options)
    again.run()
    assert [row.state for row in again.trials] == ["complete", "complete", "failed", "complete", "complete"]


def test_an_interrupt_before_there_is_a_score_is_an_interrupt(tmp_path):
    def agent(params):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, agent).run()


def test_a_finished_study_answers_at_once(tmp_path):
    options = {"storage": f"sqlite:///{tmp_path / 's.db'}", "n_trials": 3}
    first = search(tmp_path, **options).run()
    opened = len(Meadow.opened)
    assert search(tmp_path, **options).run() == first
    assert len(Meadow.opened) == opened
    assert search(tmp_path, **{**options, "n_trials": 4}).run().number in range(4)
    assert len(Meadow.opened) == opened + 1


def test_folders_of_another_search_are_refused_before_anything_is_run(tmp_path):
    search(tmp_path, n_trials=1).run()
    with pytest.raises(ConfigurationError, match="belongs to another search"):
        search(tmp_path, n_trials=1)


def test_without_a_space_the_agents_own_bounds_are_searched(tmp_path):
    orchestrator = search(tmp_path, space=None, n_trials=2)
    assert orchestrator.run().keys() == {"height"}

    def demanding(params):
        return Grower({"height": params["height"]})

    with pytest.raises(ConfigurationError, match="KeyError: 'height'; pass param_space"):
        search(tmp_path / "other", demanding, space=None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"direction": "minimize"}, "returns it with a minus"),
        ({"n_trials": 0}, "n_trials=0"),
        ({"rloptimizer_kwargs": {"max_episodes": 3}}, "trial_steps or trial_episodes"),
        ({"rloptimizer_kwargs": {"checkpoint_dir": "x"}}, "pass checkpoint_dir to the orchestrator"),
        ({"rloptimizer_kwargs": {"plateau_treshold": 3}}, "did you mean 'plateau_threshold'"),
        ({"rloptimizer_kwargs": {"looks": 0}}, "looks"),
        ({"agent_factory": Grower({})}, "expected a function"),
        ({"space": {"height": ("flota", 0, 1)}}, "did you mean 'float'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_run(tmp_path, options, says):
    with pytest.raises(ConfigurationError, match=says):
        search(tmp_path, **options)
    assert Meadow.opened == []


def test_a_data_frame_needs_pandas_and_says_so(tmp_path, monkeypatch):
    orchestrator = search(tmp_path, n_trials=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install pandas"):
        orchestrator.trials_dataframe()


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'optix-bus\[tune\]'"):
        search(tmp_path)


def test_the_loop_decides_that_a_trial_is_done_before_its_budget(tmp_path):
    orchestrator = search(tmp_path, n_trials=2, trial_steps=10_000, rloptimizer_kwargs={"target_score": 1e-3})
    orchestrator.run()
    done = optuna.trial.TrialState.COMPLETE
    trials = orchestrator.study.get_trials(states=(done,))
    assert len(trials) == 2
    assert all(row.steps < 100 for row in orchestrator.trials)
    assert all(trial.last_step == 10_000 for trial in trials)


def test_a_broken_callback_and_one_trials_memory_do_not_reach_the_next_trial(tmp_path):
    class Broken(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            raise ZeroDivisionError

    class Remembering(optix_bus.TorchEvaluator):
        seen = 0

        def score(self, episode_data, train_diagnostics):
            self.seen += 1
            assert self.seen <= 10
            return super().score(episode_data, train_diagnostics)

    evaluator = Remembering()
    options = {"callbacks": [Broken()], "evaluator": evaluator}
    orchestrator = search(tmp_path, n_trials=3, prune=False, rloptimizer_kwargs=options)
    orchestrator.run()
    assert [row.state for row in orchestrator.trials] == ["complete"] * 3
    assert evaluator.seen == 0
