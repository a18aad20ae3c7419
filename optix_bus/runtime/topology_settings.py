"""The sections of a topology file that belong to no node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optix_bus.settings import setting

FORMAT_VERSION = 1
FRAMEWORKS = ("torch", "tensorflow", "tf", "jax")
#: Options of the agent that have no effect on a class of the user's own.
OF_ALGORITHM = ("framework", "hidden_sizes", "rnn", "hyperparameters", "device")


@dataclass(frozen=True)
class DocumentSettings:
    """A topology file. The sections are checked one by one."""

    topology: int = setting(description=f"Version of this format: {FORMAT_VERSION}.")
    environment: Any = setting(description="Where experience comes from.")
    agent: Any = setting(description="Who acts and learns.")
    nodes: Any = setting(description="The actors of the run, by name.")
    name: str = setting("", "Names the runs; without it the file's name does.")
    seed: int = setting(0, "Every random stream derives from it.", minimum=0)
    run: Any = setting(None, "What the supervisor does with the processes.")
    tune: Any = setting(None, "What `optix-bus tune` tries.")
    modules: list[str] = setting(
        factory=list,
        description="Further folders whose modules this file may name, from the folder of this file on.",
    )


@dataclass(frozen=True)
class EnvironmentSettings:
    """Where experience comes from."""

    id: str = setting(description="Name in the Gymnasium registry, or module:EnvironmentName-v0.")
    kwargs: dict[str, Any] = setting(factory=dict, description="Arguments of the environment.")


@dataclass(frozen=True)
class AgentSettings:
    """Who acts and learns: an algorithm of the library, or a class of the user's own.

    Exactly one of ``algorithm`` and ``class`` is given; the options of the other are then refused, because
    they would do nothing.
    """

    algorithm: str | None = setting(None, "Algorithm of the library, for example ppo.")
    framework: str = setting("torch", "Library that the networks are written in.", choices=FRAMEWORKS)
    hidden_sizes: tuple[int, ...] | None = setting(
        None, "Units of each hidden layer; null for those of the public benchmark tables.", minimum=1
    )
    rnn: str | None = setting(
        None,
        "Kind of memory of an algorithm that has one: gru or lstm; null takes the first.",
    )
    hyperparameters: dict[str, Any] = setting(
        factory=dict, description="Hyperparameters that differ from the algorithm's defaults."
    )
    device: str = setting("auto", "Where the networks live: auto, cpu, cuda, cuda:N or mps.")
    class_: str | None = setting(None, "Your own agent as module:Class, with the six methods.")
    arguments: dict[str, Any] = setting(factory=dict, description="Arguments of your own agent's class.")

    def in_force(self) -> dict[str, Any]:
        """The options that have an effect, in the form of the file."""
        if self.class_ is not None:
            return {"class": self.class_, "arguments": dict(self.arguments)}
        return {
            "algorithm": self.algorithm,
            "framework": self.framework,
            "hidden_sizes": None if self.hidden_sizes is None else list(self.hidden_sizes),
            **({} if self.rnn is None else {"rnn": self.rnn}),
            "hyperparameters": dict(self.hyperparameters),
            "device": self.device,
        }


@dataclass(frozen=True)
class RunSettings:
    """What the supervisor does with the processes. Nothing here changes what is learnt."""

    start_seconds: float = setting(60.0, "How long a node may take to become ready.", above=0, unit="seconds")
    idle_seconds: float = setting(
        10.0, "How long a node that handles nothing may stay silent.", above=0, unit="seconds"
    )
    max_handle_seconds: float = setting(
        600.0, "How long a node may work on one event.", above=0, unit="seconds"
    )
    stop_seconds: float = setting(
        10.0, "How long a node may take to end before it is killed.", above=0, unit="seconds"
    )
    restarts: int = setting(
        10, "How often a process that died is started again within restart_seconds; 0 for never.", minimum=0
    )
    restart_seconds: float = setting(60.0, "How long a death counts.", above=0, unit="seconds")
    journal_sync_seconds: float = setting(
        1.0, "Largest part of the journal that a power cut may lose.", above=0, unit="seconds"
    )
    blob_budget_bytes: int = setting(
        1 << 30, "How much shared memory one node may fill before it waits.", minimum=1 << 20, unit="bytes"
    )
    record: str = setting(
        "auto",
        "Which arrays stay beside the journal for a replay: all (blobs), none (events), or as many as "
        "record_bytes (auto).",
        choices=("auto", "blobs", "events"),
    )
    record_bytes: int = setting(
        1 << 28, "How many bytes of its arrays each node may leave there.", minimum=0, unit="bytes"
    )


@dataclass(frozen=True)
class TuneSettings:
    """What `optix-bus tune` tries. Nothing here changes what `up` does."""

    trials: int = setting(20, "How many short runs.", minimum=1)
    workers: int = setting(1, "How many of them at the same time, each in a process.", minimum=1)
    steps: int = setting(50_000, "Environment steps of one trial.", minimum=1, unit="steps")
    startup_trials: int = setting(
        10, "Trials chosen at random before the sampler has something to go by.", minimum=1
    )
    prune: bool = setting(True, "End trials early that are below the median of the others.")
    warmup_steps: int | None = setting(
        None, "No trial is ended before; by default 15 % of its steps.", minimum=0, unit="steps"
    )
    space: dict[str, list[Any]] = setting(
        factory=dict,
        description="What is searched, e.g. learning_rate: [log_float, 1e-4, 3e-3]; a name with dots is a "
        "path in this file. By default the bounds of the algorithm.",
    )
