"""Search and main run in one call of `RLOptimizer`."""

from __future__ import annotations

import pytest

from optix_bus import LoopCallback, RLOptimizer
from optix_bus.errors import ConfigurationError
from tests.trials.worlds import Grower, Meadow, pipeline

SPACE = {"height": ("float", 0.0, 10.0)}


class Counting(LoopCallback):
    def __init__(self, at_window=None, then=None):
        self.windows, self.stopped, self.at_window, self.then = 0, 0, at_window, then

    def on_episode_end(self, episode_id, eval_metrics):
        self.windows += 1
        if self.windows == self.at_window:
            self.then()

    def on_loop_stop(self):
        self.stopped += 1


def optimizer(folder, agent_factory=Grower, **options):
    options = {"n_trials": 3, "trial_steps": 40, "max_episodes": 12, "param_space": SPACE, **options}
    options = {"optimizer": False, **options}
    return RLOptimizer(
        agent_factory=agent_factory, pipeline_factory=pipeline, checkpoint_dir=folder, **options
    )


def test_the_main_run_goes_on_from_the_weights_of_the_best_trial(tmp_path):
    loaded = []

    class Noting(Grower):
        def load_weights(self, path):
            super().load_weights(path)
            loaded.append((path, self.windows))

    opt = optimizer(tmp_path, Noting)
    finished = opt.run()
    assert (opt.search.best_weights_path, 4) in loaded
    assert finished.windows == 12
    # Ten windows are needed for the whole way: four were learnt in the trial.
    assert finished.best_score == pytest.approx(4 * opt.search.best_params["height"], rel=1e-5)
    assert opt.agent.params["height"] == opt.search.best_params["height"]
    assert opt.best_snapshot.eval_metrics.primary_score == finished.best_score
    assert all(world.closed for world in Meadow.opened)


def test_callbacks_added_while_a_factory_runs_hear_the_run_of_that_agent(tmp_path):
    added = []

    def factory(params):
        added.append(Counting())
        opt.add_callback(added[-1])
        return Grower(params)

    always = Counting()
    opt = optimizer(tmp_path, factory, callbacks=[always])
    opt.run()
    assert [each.windows for each in added] == [5, 5, 5, 12]
    assert [each.stopped for each in added] == [1, 1, 1, 1]
    assert always.windows == 12


def test_a_stop_from_a_callback_of_a_trial_ends_that_trial_only(tmp_path):
    added = []

    def factory(params):
        added.append(Counting(at_window=2, then=opt.stop))
        opt.add_callback(added[-1])
        return Grower(params)

    opt = optimizer(tmp_path, factory)
    finished = opt.run()
    assert [each.windows for each in added] == [2, 2, 2, 2]
    assert [row.state for row in opt.search.trials] == ["complete"] * 3
    assert finished.reason == "stop requested"


def test_an_interrupt_of_the_search_leaves_the_best_trial_and_no_main_run(tmp_path):
    made = []

    def factory(params):
        made.append(params)
        if len(made) == 3:
            raise KeyboardInterrupt
        return Grower(params)

    opt = optimizer(tmp_path, factory)
    finished = opt.run()
    assert (finished.reason, finished.windows) == ("interrupted", 0)
    assert opt.agent.windows == 4
    assert opt.agent.params["height"] == max(made[0]["height"], made[1]["height"])


def test_the_budget_of_a_trial_can_be_a_share_of_the_main_run(tmp_path):
    options = {"trial_steps": None, "trial_steps_fraction": 0.5}
    opt = optimizer(tmp_path / "a", **options)
    assert opt.search.budget.setting == {"max_episodes": 6}
    opt = optimizer(tmp_path / "b", max_episodes=None, max_steps=1000, **options)
    assert opt.search.budget.setting == {"max_steps": 500}
    with pytest.raises(ConfigurationError, match="which has no limit"):
        optimizer(tmp_path / "c", max_episodes=None, **options)


def test_trials_may_have_agents_of_their_own(tmp_path):
    trials = []

    def short(params):
        trials.append(params)
        return Grower(params)

    opt = optimizer(tmp_path, Grower, trial_agent_factory=short)
    opt.run()
    assert len(trials) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "needs agent and pipeline, or agent_factory and pipeline_factory"),
        ({"agent": Grower({})}, "needs agent and pipeline"),
        ({"agent_factory": Grower}, "needs both agent_factory and pipeline_factory"),
        ({"agent": Grower({}), "pipeline": 1, "param_space": SPACE}, "found param_space, which belong"),
        (
            {"agent": Grower({}), "agent_factory": Grower, "pipeline_factory": pipeline},
            "found agent beside agent_factory",
        ),
        (
            {"agent_factory": Grower, "pipeline_factory": pipeline, "max_epsodes": 3},
            "did you mean 'max_episodes'",
        ),
    ],
)
def test_half_a_search_and_both_at_once_are_refused(options, says):
    with pytest.raises(ConfigurationError, match=says):
        RLOptimizer(**options)


def test_before_the_main_run_there_is_no_agent(tmp_path):
    opt = optimizer(tmp_path)
    assert opt.best_snapshot is None
    for ask in (lambda: opt.agent, lambda: opt.scheduler):
        with pytest.raises(ConfigurationError, match="the main run has not begun"):
            ask()
