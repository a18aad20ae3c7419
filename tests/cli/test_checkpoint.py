from __future__ import annotations

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest

from optix_bus import make_agent
from optix_bus.cli import main
from tests.cli.run_folders import gone, save_snapshots, write_plan, write_run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("runs") / "tiny", gone("supervisor"), state="finished")
    write_plan(run)
    save_snapshots(run.checkpoints, 20.0, 50.0, 35.0)
    return run.root


@pytest.fixture
def run(prepared, tmp_path):
    """A copy that the test may damage."""
    return shutil.copytree(prepared, tmp_path / "tiny")


FIRST, BEST, LAST = (f"{n:08d}-v{n:06d}" for n in (1, 2, 3))


def damage(run, snapshot):
    path = run / "checkpoints" / snapshot / "weights" / "agent.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def test_snapshots_are_listed_best_first_with_their_interval(run, capsys):
    assert main(["checkpoint", "list", str(run)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["SNAPSHOT", "SCORE", "±", "95", "%", "EPISODES", "POLICY", "WINDOW"]
    assert [line.split() for line in lines] == [
        [BEST, "50.00", "2.94", "20", "2", "20"],
        [LAST, "35.00", "2.94", "20", "3", "30"],
        [FIRST, "20.00", "2.94", "20", "1", "10"],
    ]


def test_the_list_in_json_holds_numbers(run, capsys):
    assert main(["checkpoint", "list", str(run), "--json"]) == 0
    best = answer(capsys)["snapshots"][0]
    assert (best["snapshot"], best["score"], best["standard_error"], best["window"]) == (BEST, 50.0, 1.5, 20)


def test_a_run_without_snapshots_says_so(tmp_path, capsys):
    empty = write_run(tmp_path / "empty", gone("supervisor")).root
    assert main(["checkpoint", "list", str(empty)]) == 0
    assert capsys.readouterr().out == "no snapshots\n"
    assert main(["checkpoint", "show", str(empty)]) == 4
    assert "holds no snapshot" in capsys.readouterr().err


def test_snapshots_are_found_where_the_topology_put_them(tmp_path, capsys):
    elsewhere = write_run(tmp_path / "run", gone("supervisor"))
    write_plan(elsewhere, directory=str(tmp_path / "policies"))
    save_snapshots(tmp_path / "policies", 1.0)
    assert main(["checkpoint", "list", str(elsewhere.root), "--json"]) == 0
    assert [row["snapshot"] for row in answer(capsys)["snapshots"]] == [FIRST]


def test_a_damaged_snapshot_is_named_in_the_list_and_not_counted(run, capsys):
    damage(run, BEST)
    assert main(["checkpoint", "list", str(run), "--json"]) == 0
    found = answer(capsys)
    assert [row["snapshot"] for row in found["snapshots"]] == [LAST, FIRST]
    assert f"{BEST} is damaged: weights/agent.safetensors" in found["damaged"][0]
    main(["checkpoint", "list", str(run)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("damaged: ")


def test_show_tells_arrays_hyperparameters_and_where_it_lies(run, capsys):
    assert main(["checkpoint", "show", str(run), "--json"]) == 0
    found = answer(capsys)
    assert found["snapshot"] == BEST
    assert found["hyperparameters"] == {"learning_rate": 3e-4}
    assert found["path"] == str(run / "checkpoints" / BEST / "weights")
    assert found["lineage"] == [FIRST]
    assert len(found["sha256"]) == 64
    assert found["parameters"] == sum(int(np.prod(entry["shape"])) for entry in found["arrays"].values())
    assert any(entry["shape"] == [8, 4] for entry in found["arrays"].values())


def test_show_takes_the_snapshot_that_is_asked_for(run, capsys):
    assert main(["checkpoint", "show", str(run), "--snapshot", FIRST]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["snapshot", FIRST]
    assert "learning_rate" in shown


def test_an_unknown_snapshot_is_refused_and_the_known_ones_are_named(run, capsys):
    assert main(["checkpoint", "show", str(run), "--snapshot", "00000009"]) == 4
    assert capsys.readouterr().err == (f"error: no snapshot 00000009; there are {BEST}, {LAST}, {FIRST}\n")


def test_asking_for_a_damaged_snapshot_by_name_is_an_error(run, capsys):
    damage(run, BEST)
    for command in ("show", "evaluate"):
        assert main(["checkpoint", command, str(run), "--snapshot", BEST]) == 4
        assert "is damaged: weights/agent.safetensors is not what was written" in capsys.readouterr().err


def test_in_the_place_of_a_damaged_best_the_next_best_is_taken_with_a_warning(run, capsys):
    damage(run, BEST)
    assert main(["checkpoint", "show", str(run), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["snapshot"] == LAST
    assert captured.err.startswith("warning: passed over: ")


def test_a_run_with_nothing_but_damage_is_an_error_of_checkpoints(run, capsys):
    for snapshot in (FIRST, BEST, LAST):
        damage(run, snapshot)
    assert main(["checkpoint", "evaluate", str(run)]) == 4
    assert "no usable snapshot" in capsys.readouterr().err
    assert main(["checkpoint", "list", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "no snapshots"


def test_an_evaluation_plays_the_episodes_asked_for_and_repeats_itself(run, capsys):
    answers = []
    for _ in range(2):
        assert main(["checkpoint", "evaluate", str(run), "--episodes", "5", "--seed", "3", "--json"]) == 0
        answers.append(answer(capsys))
    assert answers[0] == answers[1]
    assert answers[0]["snapshot"] == BEST
    assert answers[0]["episodes"] == 5
    assert answers[0]["deterministic"] is True
    assert answers[0]["min"] <= answers[0]["mean"] <= answers[0]["max"]


def test_an_evaluation_may_sample_and_says_so(run, capsys):
    assert main(["checkpoint", "evaluate", str(run), "--episodes", "5", "--stochastic"]) == 0
    shown = capsys.readouterr().out
    assert f"policy 2 ({BEST})" in shown
    assert shown.endswith("; stochastic\n")


def test_one_episode_has_no_standard_error_and_json_stays_json(run, capsys):
    assert main(["checkpoint", "evaluate", str(run), "--episodes", "1", "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert json.loads(text)["standard_error"] is None


def test_several_runs_play_the_same_episodes_and_are_summed_up_with_intervals(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    shutil.rmtree(other / "checkpoints" / BEST)
    both = ["checkpoint", "evaluate", str(run), str(other), "--episodes", "5"]
    assert main([*both, "--json"]) == 0
    found = answer(capsys)
    assert [row["snapshot"] for row in found["runs"]] == [BEST, LAST]
    means = [row["mean"] for row in found["runs"]]
    assert found["over_runs"]["runs"] == 2
    for name in ("interquartile_mean", "mean"):
        summed = found["over_runs"][name]
        assert summed["estimate"] == pytest.approx(np.mean(means))
        assert (summed["low"], summed["high"]) == (min(means), max(means))
    assert main(both) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["RUN", str(run), str(other)]
    assert lines[3] == "5 episodes each (seed 10000); over 2 runs, 95 % bootstrap intervals:"
    assert lines[4].split()[:2] == ["interquartile", "mean"]


def test_a_snapshot_of_several_runs_is_refused(run, capsys):
    assert main(["checkpoint", "evaluate", str(run), str(run), "--snapshot", BEST]) == 2
    assert "expected one run" in capsys.readouterr().err


def test_an_evaluation_needs_the_plan_of_the_run(run, capsys):
    (run / "plan.json").unlink()
    assert main(["checkpoint", "evaluate", str(run)]) == 2
    assert "cannot read the plan of the run" in capsys.readouterr().err


def test_an_export_can_be_loaded_by_an_agent_as_the_help_says(run, tmp_path, capsys):
    target = tmp_path / "best-policy"
    assert main(["checkpoint", "export", str(run), str(target)]) == 0
    assert capsys.readouterr().out == f"{BEST} -> {target}\n"
    card = json.loads((target / "card.json").read_text())
    assert (card["snapshot"], card["score"], len(card["sha256"])) == (BEST, 50.0, 64)
    world = gym.make("CartPole-v1")
    source = make_agent(world, hidden_sizes=(8,), device="cpu", seed=2)
    loaded = make_agent(world, hidden_sizes=(8,), device="cpu", seed=99)
    loaded.load_weights(str(target / "weights"))
    for name, array in source.state().arrays.items():
        np.testing.assert_array_equal(loaded.state().arrays[name], array, err_msg=name)


def test_an_export_takes_the_snapshot_that_is_asked_for(run, tmp_path, capsys):
    assert main(["checkpoint", "export", str(run), str(tmp_path / "x"), "--snapshot", FIRST, "--json"]) == 0
    assert answer(capsys)["snapshot"] == FIRST


def test_an_export_to_onnx_acts_like_the_snapshot(run, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    target = tmp_path / "best.onnx"
    assert main(["checkpoint", "export", str(run), str(target), "--format", "onnx"]) == 0
    assert capsys.readouterr().out == f"{BEST} -> {target}\n"
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(target)).run(["actions"], {"observations": x})
    source = make_agent(gym.make("CartPole-v1"), hidden_sizes=(8,), device="cpu", seed=2)
    np.testing.assert_array_equal(found, source.act_batch(x, deterministic=True).actions)
    assert main(["checkpoint", "export", str(run), str(target), "--format", "onnx"]) == 2
    assert "exists already: name a new file" in capsys.readouterr().err


def test_an_export_never_writes_over_what_is_there(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    assert main(["checkpoint", "export", str(run), str(tmp_path / "mine")]) == 2
    assert "exists already: name a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_export_to_where_nothing_can_be_written_is_an_error_of_one_line(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["checkpoint", "export", str(run), str(tmp_path / "file" / "below")]) == 4
    assert "cannot write" in capsys.readouterr().err
