from __future__ import annotations

import json

import jsonschema

from optix_bus.cli import main


def test_the_schema_is_printed_as_json(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["topology"]["const"] == 1


def test_the_schema_is_written_to_a_file(tmp_path, capsys):
    path = tmp_path / "schema.json"
    assert main(["schema", "--output", str(path)]) == 0
    assert json.loads(path.read_text())["type"] == "object"
    assert main(["schema", "--output", str(tmp_path / "no" / "folder")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_node_class_of_ones_own_can_be_included(capsys):
    assert main(["schema", "--node", "tests.runtime.fake_nodes:Driver"]) == 0
    text = capsys.readouterr().out
    assert "tests.runtime.fake_nodes:Driver" in text
    assert "How many windows to ask for." in text
    assert main(["schema", "--node", "tests.runtime.fake_nodes:Drivr"]) == 2
    assert "did you mean 'Driver'?" in capsys.readouterr().err
