from __future__ import annotations

import json
import subprocess
import sys
import time

import click
import pytest

from optix_bus.cli import COMMANDS, cli, main
from optix_bus.cli.command import command, say
from optix_bus.errors import CheckpointError, ConfigurationError
from tests.runtime.topologies import RIGHT

HERE = sorted(cli.list_commands(click.Context(cli)))


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = "('torch', 'zmq', 'gymnasium', 'numpy', 'ruamel.yaml', 'msgspec', 'rich')"
    code = f"import sys, optix_bus.cli; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_help_answers_at_once():
    code = "import sys; from optix_bus.cli import main; sys.exit(main(['--help']))"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run_python(code)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_help_lists_the_commands_that_are_there(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("init", "validate", "schema"):
        assert f"  {name} " in shown
        assert COMMANDS[name][1] in shown


def test_a_command_whose_file_is_not_there_yet_is_not_listed(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "later", ("optix_bus.cli.not_written:later", "Comes later."))
    assert main(["--help"]) == 0
    assert "later" not in capsys.readouterr().out
    assert main(["later"]) == 2


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert main(["valdate"]) == 2
    assert "there is no command 'valdate'; did you mean 'validate'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", HERE)
def test_every_command_has_help_with_an_example_and_takes_json_and_debug(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"optix-bus {name}" in shown.partition("Example:")[2]
    if not isinstance(cli.get_command(click.Context(cli), name), click.Group):
        assert "--json" in shown
        assert "--debug" in shown


def test_the_table_names_commands_by_their_own_names():
    for name in HERE:
        found = cli.get_command(click.Context(cli), name)
        assert found is not None
        assert found.name == name


@pytest.fixture
def failing(monkeypatch):
    """Registers commands that raise; returns how to run one."""

    def run(error, *flags):
        @command("fail", example="optix-bus fail")
        def fail() -> None:
            """Fail."""
            raise error

        monkeypatch.setattr(type(cli), "get_command", lambda *_: fail)
        monkeypatch.setattr(type(cli), "list_commands", lambda *_: ["fail"])
        return main(["fail", *flags])

    return run


@pytest.mark.parametrize(("error", "code"), [(ConfigurationError("wrong"), 2), (CheckpointError("torn"), 4)])
def test_an_error_of_the_project_is_one_line_and_its_exit_code(failing, capsys, error, code):
    assert failing(error) == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


def test_debug_shows_where_an_error_came_from(failing, capsys):
    assert failing(ConfigurationError("wrong"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_with_json_an_error_is_an_object(failing, capsys):
    assert failing(ConfigurationError("wrong"), "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "ok": False,
        "kind": "ConfigurationError",
        "error": "wrong",
        "exit_code": 2,
        "problems": [],
    }
    assert captured.err == ""


def test_what_nobody_foresaw_is_no_bare_traceback(failing, capsys):
    assert failing(ZeroDivisionError("division by zero")) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("internal error: ZeroDivisionError: division by zero")
    assert "Traceback" not in shown
    assert failing(ZeroDivisionError("division by zero"), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_has_the_exit_code_of_an_interrupt(failing):
    assert failing(KeyboardInterrupt()) == 130


def test_a_reader_that_has_gone_is_no_error():
    code = "import sys; from optix_bus.cli import main; sys.exit(main(['schema']))"
    done = subprocess.run(
        f'"{sys.executable}" -c "{code}" | head -1', shell=True, capture_output=True, text=True, check=False
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_a_wrong_option_is_a_usage_error_and_with_json_an_object(capsys):
    assert main(["validate", "--nonsense"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert main(["validate", "--nonsense", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["kind"] == "UsageError"


def test_an_answer_is_text_or_json(monkeypatch, capsys):
    @command("speak", example="optix-bus speak")
    def speak() -> None:
        """Speak."""
        say({"word": "hello"}, "hello you")

    monkeypatch.setattr(type(cli), "get_command", lambda *_: speak)
    monkeypatch.setattr(type(cli), "list_commands", lambda *_: ["speak"])
    assert main(["speak"]) == 0
    assert capsys.readouterr().out == "hello you\n"
    assert main(["speak", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "word": "hello"}


def test_the_module_runs_as_a_script(tmp_path):
    (tmp_path / "topology.yaml").write_text(RIGHT.replace("seed: 7", "sed: 7"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "optix_bus.cli",
            "validate",
            str(tmp_path / "topology.yaml"),
            "--skip-environment",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "topology.yaml:4:1: unknown option 'sed' of the topology; did you mean 'seed'?" in done.stderr
    assert "\x1b" not in done.stderr
