"""The layer check looks at the whole house: a room that its table does not name is outside of every rule."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Beside the library, for users' tests; it has a contract of its own.
BESIDE = {"optix_bus.testing"}


def contracts():
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return {name.rpartition(":")[2]: parser[name] for name in parser.sections() if "contract" in name}


def names(contract, option):
    return contract[option].replace("|", " ").split()


def rooms():
    """Every package and module directly below the library."""
    for path in (ROOT / "optix_bus").iterdir():
        if path.is_dir() and any(path.rglob("*.py")):
            yield f"optix_bus.{path.name}"
        elif path.suffix == ".py" and path.stem != "__init__":
            yield f"optix_bus.{path.stem}"


def test_every_room_has_its_layer():
    assert set(rooms()) - BESIDE == set(names(contracts()["layers"], "layers")) - {"nodes"}


def test_every_package_can_be_seen_by_the_check():
    packages = {path.parent for path in (ROOT / "optix_bus").rglob("*.py")}
    assert [str(path) for path in packages if not (path / "__init__.py").exists()] == []


def test_the_bus_may_import_the_ground_only():
    ground = {
        "optix_bus.bus",
        "optix_bus.types",
        "optix_bus.errors",
        "optix_bus.settings",
        "optix_bus.failpoints",
    }
    assert set(rooms()) - ground <= set(names(contracts()["bus"], "forbidden_modules"))


def test_messages_may_import_the_ground_only():
    ground = {"optix_bus.messages", "optix_bus.types", "optix_bus.errors", "optix_bus.settings"}
    assert set(rooms()) - ground <= set(names(contracts()["messages"], "forbidden_modules"))


def test_no_contract_forgives_more_than_a_folder_its_own_framework():
    ignored = [
        line
        for contract in contracts().values()
        for line in contract.get("ignore_imports", "").split("\n")
        if line
    ]
    frameworks = {
        "jax": ("flax", "jax", "optax"),
        "tensorflow": ("keras", "tensorflow"),
        "torch": ("torch",),
    }
    own = [f"optix_bus.agents.{name}.** -> {each}" for name in frameworks for each in frameworks[name]]
    assert sorted(ignored) == [*own, "optix_bus.bus.** -> zmq"]
