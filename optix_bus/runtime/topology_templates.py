"""Topologies to start from, written with the description of every option beside it.

The options that a template chooses are in force; the others stand there as comments with their defaults.
All words come from the settings classes, so a template cannot say something else than `validate` does.
"""

from __future__ import annotations

import dataclasses
import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

from optix_bus.agents.cards import CARDS
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.node import Node
from optix_bus.runtime.problems import did_you_mean
from optix_bus.runtime.topology_agent_example import CUSTOM_AGENT
from optix_bus.runtime.topology_classes import load_node_class
from optix_bus.runtime.topology_entry import ABOUT_RESTART, NodeEntry, idle_options
from optix_bus.runtime.topology_settings import (
    FORMAT_VERSION,
    OF_ALGORITHM,
    AgentSettings,
    DocumentSettings,
    EnvironmentSettings,
    RunSettings,
)
from optix_bus.runtime.validation import as_plain, in_full, options, required

WIDTH = 108
_COLUMN = 40


@dataclass(frozen=True)
class Template:
    """What a template chooses; everything else is left to defaults.

    Attributes:
        title: first line of the file.
        name: of the runs.
        agent: options of the agent.
        nodes: per node the class and the options that are in force.
        files: further files to write beside the topology, by name.
    """

    title: str
    name: str
    agent: Mapping[str, Any]
    nodes: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, Any] = field(default_factory=lambda: {"id": "CartPole-v1"})
    files: Mapping[str, str] = field(default_factory=dict)


_SECTIONS = ("environment", "agent", "nodes", "run", "tune", "modules")
_TRAIN = {"node": "nodes.pipeline:PipelineNode", "role": "train", "environments": 8, "window_steps": 256}
_VALIDATION = {
    "node": "nodes.pipeline:PipelineNode",
    "role": "validation",
    "environments": 10,
    "episodes": 20,
}
_LEARNER = {"node": "nodes.learner:LearnerNode"}
_EVALUATOR = {"node": "nodes.evaluator:EvaluatorNode"}
_SCHEDULER = {"node": "nodes.scheduler:SchedulerNode", "max_episodes": 500}
_OPTIMIZER = {"node": "nodes.optimizer:OptimizerNode", "method": "spsa"}
_CHECKPOINT = {"node": "nodes.checkpoint:CheckpointNode", "max_snapshots": 10}
_POLICY_MANAGER = {"node": "nodes.policy_manager:PolicyManagerNode", "variants": "continue", "max_spawns": 2}

_WHOLE: dict[str, Mapping[str, Any]] = {
    "pipeline": _TRAIN,
    "validation": _VALIDATION,
    "learner": _LEARNER,
    "evaluator": _EVALUATOR,
    "scheduler": _SCHEDULER,
    "optimizer": _OPTIMIZER,
    "checkpoint": _CHECKPOINT,
}
_PPO = {"algorithm": "ppo", "hidden_sizes": [64, 64], "hyperparameters": {"learning_rate": 3e-4}}

TEMPLATES: dict[str, Template] = {
    "cartpole_ppo": Template(
        "PPO on CartPole, with validation episodes and tuning inside the run.",
        "cartpole-ppo",
        _PPO,
        _WHOLE,
    ),
    "evolving": Template(
        "PPO on CartPole; a plateau is answered by variants of the best policy until they are spent.",
        "evolving",
        _PPO,
        {**_WHOLE, "policy_manager": _POLICY_MANAGER},
    ),
    "one_pipeline": Template(
        "The smallest loop: one pipeline whose own windows are the score.",
        "one-pipeline",
        {"algorithm": "ppo"},
        {
            "pipeline": _TRAIN,
            "learner": _LEARNER,
            "evaluator": _EVALUATOR,
            "scheduler": _SCHEDULER,
            "checkpoint": _CHECKPOINT,
        },
    ),
    "custom_agent": Template(
        "Your own agent: my_agent.py beside this file.",
        "custom-agent",
        {"class": "my_agent:MyAgent", "arguments": {"observation_size": 4, "actions": 2}},
        {
            "pipeline": _TRAIN,
            "validation": _VALIDATION,
            "learner": _LEARNER,
            "evaluator": _EVALUATOR,
            "scheduler": _SCHEDULER,
            "checkpoint": _CHECKPOINT,
        },
        files={"my_agent.py": CUSTOM_AGENT},
    ),
}


def template(name: str) -> Template:
    """The template of this name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in TEMPLATES:
        hint = did_you_mean(name, TEMPLATES, "templates")
        raise ConfigurationError(f"there is no template '{name}'; {hint}")
    return TEMPLATES[name]


def write_topology(chosen: Template) -> str:
    """The text of a topology file."""
    head = {"topology": FORMAT_VERSION, "name": chosen.name, "seed": 0}
    out = [f"# {chosen.title}", "# Check it with: optix-bus validate      Start it with: optix-bus up", ""]
    out += _options(DocumentSettings, head, 0, leave_out=_SECTIONS)
    out += ["", "environment:", *_options(EnvironmentSettings, chosen.environment, 2)]
    out += ["", "agent:", *_agent(chosen.agent)]
    out += ["", "nodes:"]
    for name, entry in chosen.nodes.items():
        out += [f"  {name}:", *_node(entry)]
    run = _options(RunSettings, {}, 2)
    return "\n".join([*out, "", "run:", *run]) + "\n"


def _agent(given: Mapping[str, Any]) -> list[str]:
    own = "class" in given
    others = ("algorithm", *OF_ALGORITHM) if own else ("class", "arguments")
    if not own and not CARDS[given["algorithm"]].memories:
        others = (*others, "rnn")
    plain = {key: value for key, value in given.items() if key != "hyperparameters"}
    lines = _options(AgentSettings, plain, 2, leave_out=(*others, "hyperparameters"))
    if own:
        return lines
    chosen = given.get("hyperparameters", {})
    card = CARDS[given["algorithm"]]
    head = "  hyperparameters:" + ("" if chosen else " {}")
    return [*lines, f"{head:<{_COLUMN}} # {card.title}.", *_options(card.hyperparameters, chosen, 4)]


def _node(entry: Mapping[str, Any]) -> list[str]:
    cls = load_node_class(entry["node"])
    own = {key: entry[key] for key in ("node", "role") if key in entry}
    lines = [_line(4, key, value, _first_line(cls) if key == "node" else "") for key, value in own.items()]
    lines.append(_line(4, "restart", NodeEntry.restart, ABOUT_RESTART, commented=True))
    idle = tuple(idle_options(cls, entry.get("role", "")))
    given = {key: value for key, value in entry.items() if key not in own}
    return [*_flat(lines), *_options(cls.settings, given, 4, leave_out=idle)]


def _options(cls: type, given: Mapping[str, Any], indent: int, leave_out: tuple[str, ...] = ()) -> list[str]:
    known = options(cls)
    strangers = [key for key in given if key not in known]
    if strangers:
        raise ConfigurationError(
            f"a template sets {', '.join(strangers)}, which {cls.__name__} does not have"
        )
    lines = []
    for key, option in known.items():
        if key in leave_out:
            continue
        words = in_full(option)
        if key in given:
            lines.append(_line(indent, key, given[key], words))
        elif not required(option):
            lines.append(_line(indent, key, _default(option), words, commented=True))
    return _flat(lines)


def _default(option: dataclasses.Field[Any]) -> Any:
    if option.default_factory is not dataclasses.MISSING:
        return as_plain(option.default_factory())
    return as_plain(option.default)


def _line(indent: int, key: str, value: Any, words: str, *, commented: bool = False) -> list[str]:
    """``key: value  # words``, or the words above where they do not fit behind."""
    space = " " * indent
    text = f"{space}{'# ' if commented else ''}{key}: {_inline(value)}"
    if not words:
        return [text]
    behind = f"{text:<{_COLUMN}} # {words}"
    if len(behind) <= WIDTH:
        return [behind]
    above = textwrap.wrap(words, WIDTH - indent - 2)
    return [*(f"{space}# {line}" for line in above), text]


def _inline(value: Any) -> str:
    """A value on one line."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 1000
    yaml.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump([value], out)
    return out.getvalue().strip().removeprefix("[").removesuffix("]")


def _first_line(cls: type[Node]) -> str:
    paragraph = (cls.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(line.strip() for line in paragraph.splitlines())


def _flat(lines: list[list[str]]) -> list[str]:
    return [line for group in lines for line in group]
