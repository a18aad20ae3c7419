"""The checker of the pages finds what is wrong, where it is, and nothing else."""

from __future__ import annotations

import shutil

import pytest

from tests.architecture.docs_check import ROOT, Code, check, main, pages, split

TOPOLOGY = (ROOT / "topologies" / "cartpole_ppo.yaml").read_text(encoding="utf-8")


@pytest.fixture
def said(tmp_path):
    """Writes a page into a small repository; returns what is wrong with it, as (line, text)."""
    (tmp_path / "Makefile").write_text("VENV := .venv\n.PHONY: test\ntest: a\n\trun\ncheck:  ## all\n\trun\n")
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "scheduler.py").write_text("")
    (tmp_path / "nodes" / "test_a.py").write_text(
        "class TestA:\n    def test_a(self):\n        assert True\n"
    )
    (tmp_path / "optix_bus" / "loop").mkdir(parents=True)
    (tmp_path / "optix_bus" / "loop" / "book.py").write_text("")
    (tmp_path / "optix_bus" / "versions.py").write_text("")

    def write(text, folder="."):
        page = tmp_path / folder / "PAGE.md"
        page.write_text(text, encoding="utf-8")
        return [(mistake.line, mistake.text) for mistake in check(page, tmp_path)]

    return write


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "`nodes/scheduler.py` and `optix_bus/loop/` and `nodes/*.py`",
        "`loop/book.py` of the library and `versions.py`",
        "`nodes/NAME.py` stands for any",
        "`nodes/test_a.py::TestA::test_a` and `nodes/test_a.py::TestA`",
        "`RUN/journal/` is a folder of a run, `run.json` a file in it, `train/validation` are two words",
        "`optix_bus.errors.ConfigurationError` and `optix_bus.make_agent` and `nodes.scheduler`",
        "[here](nodes/scheduler.py), [there](https://example.org/x), [below](#below), [mail](mailto:a@b.c)",
        "`optix-bus up topology.yaml --seed 3 -d --set a.b=1`, `optix-bus checkpoint evaluate --episodes=3`",
        "`optix-bus COMMAND --anything` and `optix-bus --version` and `optix-bus checkpoint --help`",
        "`optix-bus schema > topology.schema.json` and `optix-bus ps | head --lines 3`",
        "`make test check` and `make test PYTHON=python3.12`; please make sense of it",
        "    make test    # the tests\n    optix-bus down  # --never-mind",
        "```python\nfrom optix_bus import make_agent\nimport torch_of_somebody\n```",
        "```yaml\nnot: a topology\n```",
        f"```yaml\n{TOPOLOGY}```",
        "```text\n$ optix-bus logs runs/tonight learner \\\n    --follow\n```",
    ],
)
def test_what_is_so_is_left_alone(said, text):
    assert said(text) == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\nsee `nodes/shceduler.py`", 2, "there is no nodes/shceduler.py"),
        ("see `loop/page.py`", 1, "there is no loop/page.py"),
        ("see `nothing.py` and `nodes/*.yaml`", 1, "there is no nodes/*.yaml"),
        ("see `other/NAME.py` of `nodes/nowhere/`", 1, "there is no nodes/nowhere/"),
        ("`nodes/test_a.py::TestA::test_b`", 1, "there is no test_b in nodes/test_a.py"),
        ("`nodes/test_c.py::test_d`", 1, "there is no nodes/test_c.py"),
        ("`optix_bus.errors.ConfigError`", 1, "there is no optix_bus.errors.ConfigError"),
        ("`optix_bus.nowhere`", 1, "there is no optix_bus.nowhere"),
        ("a\n\n[here](nodes/gone.md)", 3, "the link leads to nodes/gone.md, which does not exist"),
        ("`optix-bus upp`", 1, "there is no `optix-bus upp`"),
        ("`optix-bus checkpoint eval`", 1, "there is no `optix-bus checkpoint eval`"),
        ("`optix-bus up --sed 3`", 1, "`optix-bus up` has no option --sed"),
        ("`optix-bus checkpoint list --best=1`", 1, "`optix-bus checkpoint list` has no option --best"),
        ("`optix-bus down one two`", 1, "`optix-bus down` takes 1 argument, found 2"),
        ("`optix-bus ps && optix-bus lgos`", 1, "there is no `optix-bus lgos`"),
        (
            "text\n\n    optix-bus init\n    optix-bus logs --fellow",
            4,
            "`optix-bus logs` has no option --fellow",
        ),
        ("```sh\noptix-bus logs \\\n  --fellow\n```", 2, "`optix-bus logs` has no option --fellow"),
        ("`make tests`", 1, "there is no `make tests`"),
        ("```\n$ make check bech\n```", 2, "there is no `make bech`"),
        ("```python\nx = 1\nx = = 2\n```", 3, "this is no Python: invalid syntax"),
        ("```python\n\nfrom optix_bus import make_agnet\n```", 3, "there is no optix_bus.make_agnet"),
        ("```python\nimport optix_bus.nowhere\n```", 2, "there is no optix_bus.nowhere"),
    ],
)
def test_what_is_not_so_is_found_with_its_line(said, text, line, message):
    assert (line, message) in said(text)


def test_a_topology_on_a_page_is_validated_and_the_line_is_that_of_the_page(said):
    spoilt = TOPOLOGY.replace("seed:", "sed:")
    line = 3 + next(n for n, each in enumerate(spoilt.splitlines()) if each.startswith("sed:"))
    found = said(f"# Title\n```yaml\n{spoilt}```\n")
    assert (line, "unknown option 'sed' of the topology") in found


def test_a_page_may_speak_of_its_own_neighbours(said):
    assert said("`book.py`", folder="optix_bus/loop") == []
    assert said("`bok.py`", folder="optix_bus/loop") == [(1, "there is no bok.py")]


def test_prose_and_code_are_told_apart():
    text = "one\n\n    code\n\n- item\n    still prose\n\n```python\nx\n```\nend"
    prose, blocks = split(text)
    assert [line for _, line in prose if line] == ["one", "- item", "    still prose", "end"]
    assert blocks == [Code(3, "", ["code"]), Code(9, "python", ["x"])]


def test_every_page_of_the_repository_is_looked_at():
    found = [page.relative_to(ROOT).as_posix() for page in pages(ROOT)]
    assert {"README.md", "CONTRIBUTING.md", "optix_bus/ARCHITECTURE.md"} <= set(found)
    assert not [name for name in found if name.startswith((".venv", "runs"))]


def test_the_exit_code_says_whether_all_is_well(tmp_path, capsys):
    shutil.copy(ROOT / "Makefile", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("`make demo`\n")
    assert main(tmp_path) == 0
    assert capsys.readouterr().out == "1 pages, 0 mistakes\n"
    page.write_text("`make demo`\n`make money`\n")
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[0] == "README.md:2: there is no `make money`"
