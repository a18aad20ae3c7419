from __future__ import annotations

import json
import sys

import pytest

from optix_bus.cli import main
from optix_bus.runtime.topology_templates import TEMPLATES


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_agent", raising=False)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_init_writes_passes_validate(name, capsys):
    assert main(["init", "--template", name]) == 0
    assert "optix-bus validate topology.yaml" in capsys.readouterr().out
    assert main(["validate"]) == 0


def test_init_makes_folders_and_lists_what_it_wrote(tmp_path, capsys):
    assert main(["init", "a/b/t.yaml", "--template", "custom_agent", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["files"] == ["a/b/t.yaml", "a/b/my_agent.py"]
    assert (tmp_path / "a/b/my_agent.py").read_text().startswith('"""An agent of your own.')


def test_init_never_writes_over_a_file_unless_forced(tmp_path, capsys):
    (tmp_path / "topology.yaml").write_text("mine")
    assert main(["init"]) == 2
    assert "topology.yaml exists already" in capsys.readouterr().err
    assert (tmp_path / "topology.yaml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert "topology: 1" in (tmp_path / "topology.yaml").read_text()


def test_an_unknown_template_gets_a_suggestion(capsys):
    assert main(["init", "--template", "cartpole"]) == 2
    assert "did you mean 'cartpole_ppo'?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "a_file").write_text("")
    assert main(["init", "a_file/t.yaml"]) == 2
    assert "error: cannot write" in capsys.readouterr().err
