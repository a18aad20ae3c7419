"""The learning gates: what is trained, for how long, with which settings, and what its score has to reach.

Settings are those of RL Baselines3 Zoo, the tuned ones behind the public benchmark tables; where ours differ,
``differs`` says so. One thing differs for all: DQN chooses its next action with the network that learns
(double). Names of the Zoo and ours: ``n_envs`` is ``environments``, ``n_steps`` or ``train_freq`` is
``window``, ``batch_size`` of PPO is ``minibatch_size``, ``lin_X`` a linear schedule to 0;
``target_update_interval`` counts steps of the environment, ``target_update_freq`` gradient steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.learning.demands import Demand

_ZOO = "https://github.com/DLR-RM/rl-baselines3-zoo/blob/master"
ZOO_TABLE = f"{_ZOO}/benchmark.md"
HER = "https://arxiv.org/abs/1707.01495"


@dataclass(frozen=True)
class Gate:
    """One row of the table.

    Attributes:
        name: for the command line.
        environment: id, as in a topology.
        algorithm, framework, rnn, hidden_sizes, hyperparams: as `make_agent` takes them.
        steps: of all environments together; no run takes more.
        environments: stepped side by side.
        window: steps of each between two calls of ``learn``.
        demand: what the scores of the seeds have to reach.
        reference: figure of the public table for the same number of steps, unless it says otherwise.
        source: where that stands.
        differs: from the settings behind that figure.
        trainer: ``agent``: `make_agent` and a pipeline; ``bit_flip``: an agent with a hindsight replay.
    """

    name: str
    environment: str
    algorithm: str
    steps: int
    demand: Demand
    environments: int
    window: int
    hyperparams: Mapping[str, Any]
    framework: str = "torch"
    rnn: str | None = None
    hidden_sizes: tuple[int, ...] | None = None
    reference: str = ""
    source: str = ""
    differs: str = ""
    trainer: str = "agent"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """All that training depends on."""
        names = (
            "environment", "algorithm", "steps", "environments", "window", "hyperparams", "framework", "rnn",
            "hidden_sizes", "trainer", "extra",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def digest(self) -> str:
        """Changes when `settings` do, so that no result is taken for one of other settings."""
        written = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]


def _falling(start: float, over: int, to: float = 0.0) -> dict[str, Any]:
    return {"schedule": "linear", "from": start, "to": to, "over": over}


def _exploring(fraction: float, last: float, steps: int) -> dict[str, Any]:
    """Epsilon falls linearly, as the Zoo has it, not by a factor."""
    return {
        "epsilon": _falling(1.0, int(fraction * steps), last),
        "epsilon_min": 0.0,
        "epsilon_decay": 1.0,
    }


_CARTPOLE_PPO = {
    "learning_rate": _falling(1e-3, 100_000),
    "clip_ratio": _falling(0.2, 100_000),
    "gae_lambda": 0.9,
    "n_epochs": 20,
    "minibatch_size": 256,
    "entropy_coef": 0.0,
}
_CARTPOLE_PPO_DIFFERS = (
    "windows of 8 x 128 instead of 8 x 32, gamma .99 instead of .98, lambda .9 instead of .8: with the Zoo's "
    "settings not every seed reaches 475"
)
_PENDULUM_PPO = {
    "learning_rate": _falling(1e-3, 200_000),
    "gamma": 0.95,
    "minibatch_size": 128,
    "entropy_coef": 0.0,
}
_MEMORY = {
    "learning_rate": _falling(1e-3, 100_000),
    "minibatch_size": 256,
    "n_epochs": 10,
    "entropy_coef": 0.0,
}
_FREQUENT_DQN = {
    "learning_rate": _falling(6.3e-4, 100_000),
    "replay_capacity": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "train_freq": 4,
    "target_update_freq": 250,
}
_LANDER_DQN = {
    **_FREQUENT_DQN,
    "learning_rate": _falling(1e-3, 100_000, 1e-4),
    "target_update_freq": 500,
    "batch_size": 128,
    "gradient_steps": None,
    **_exploring(0.2, 0.05, 100_000),
}
_ACROBOT_DQN = {
    **_FREQUENT_DQN,
    "batch_size": 64,
    "gradient_steps": 2,
    **_exploring(0.12, 0.02, 100_000),
}
_RAINBOW = {
    "learning_rate": _falling(1e-3, 50_000),
    "batch_size": 64,
    "gamma": 0.99,
    "n_step": 3,
    "per_alpha": 0.2,
    "v_min": 0.0,
    "v_max": 120.0,
    "n_atoms": 61,
    "train_freq": 128,
    "gradient_steps": 128,
    "target_update_freq": 256,
}
_NO_FIGURE = "no public figure"
_BITS = {"bits": 15}
_HIDDEN = "optix_bus/CartPoleNoVel-v1"

GATES: tuple[Gate, ...] = (
    Gate(
        "cartpole-ppo", "CartPole-v1", "ppo", 100_000, Demand(1.0, ">=", 475.0), 8, 128, _CARTPOLE_PPO,
        reference="500.0", source=ZOO_TABLE, differs=_CARTPOLE_PPO_DIFFERS,
    ),
    Gate(
        "acrobot-ppo", "Acrobot-v1", "ppo", 300_000, Demand("IQM", ">=", -95.0), 16, 256,
        {"gae_lambda": 0.94, "n_epochs": 4, "entropy_coef": 0.0},
        reference="-73.5 after 1M", source=ZOO_TABLE, differs="observations and rewards are not normalised",
    ),
    Gate(
        "cartpole-dqn", "CartPole-v1", "dqn", 50_000, Demand("IQM", ">=", 475.0), 1, 256,
        {
            "learning_rate": _falling(1e-3, 50_000), "batch_size": 64, "replay_capacity": 100_000,
            "learning_starts": 1000, "gamma": 0.99, "train_freq": 256, "gradient_steps": 128,
            "target_update_freq": 128, "n_step": 4, **_exploring(0.16, 0.04, 50_000),
        },
        reference="500.0", source=ZOO_TABLE,
        differs="4 steps instead of 1, the learning rate falls from 1e-3 to 0 instead of 2.3e-3 throughout: "
        "with the Zoo's settings the last policy depends on the moment",
    ),
    Gate(
        "cartpole-rainbow", "CartPole-v1", "rainbow", 50_000, Demand("IQM", ">=", "cartpole-dqn"), 1, 256,
        _RAINBOW, hidden_sizes=(128,), reference=_NO_FIGURE,
        differs="no table has it: one gradient step of 64 transitions for each step, 3 steps, priorities to "
        "the power of 0.2, 61 atoms from 0 to 120, because an endless episode is worth 100",
    ),
    Gate(
        "mountaincar-dqn", "MountainCar-v0", "dqn", 120_000, Demand(0.8, ">=", -115.0), 1, 16,
        {
            "learning_rate": _falling(4e-3, 120_000, 4e-4), "n_step": 3, "batch_size": 128,
            "replay_capacity": 10_000, "learning_starts": 1000,
            "gamma": 0.98, "train_freq": 16, "gradient_steps": 8, "target_update_freq": 300,
            **_exploring(0.2, 0.07, 120_000),
        },
        reference="-100.8", source=ZOO_TABLE,
        differs="3 steps instead of 1, the learning rate falls from 4e-3 to 4e-4 instead of 4e-3 throughout: "
        "with the Zoo's settings the last policy depends on the moment",
    ),
    Gate(
        "pendulum-ppo", "Pendulum-v1", "gaussian_ppo", 200_000, Demand("IQM", ">=", -200.0), 8, 256,
        _PENDULUM_PPO, reference="-172.2 after 100k", source=ZOO_TABLE,
        differs="no noise that depends on the state; 8 x 256 instead of 4 x 1024, gamma .95 instead of .9, "
        "minibatches of 128 instead of 64, the learning rate falls to 0",
    ),
    Gate(
        "bitflip-her", "BitFlip(15)", "dqn with HERBuffer", 20_000, Demand("IQM", ">=", 0.95), 1, 15,
        {}, trainer="bit_flip", extra={**_BITS, "k": 4},
        reference="solved up to 50 bits (figure 1)", source=HER,
    ),
    Gate(
        "bitflip-plain", "BitFlip(15)", "dqn without hindsight", 20_000, Demand("IQM", "<=", 0.05), 1, 15,
        {}, trainer="bit_flip", extra={**_BITS, "k": 0},
        reference="not solved above 13 bits (figure 1)", source=HER,
    ),
    Gate(
        "memory-none", _HIDDEN, "ppo", 100_000, Demand("IQM", "<=", 80.0), 8, 128,
        _MEMORY, reference=_NO_FIGURE, differs="a control: the settings of the next two",
    ),
    Gate(
        "memory-gru", _HIDDEN, "recurrent_ppo", 100_000, Demand("IQM", ">=", 450.0), 8, 128,
        _MEMORY, rnn="gru", reference=_NO_FIGURE, differs="our own",
    ),
    Gate(
        "memory-lstm", _HIDDEN, "recurrent_ppo", 100_000, Demand("IQM", ">=", 450.0), 8, 128,
        _MEMORY, rnn="lstm", reference=_NO_FIGURE, differs="our own",
    ),
    Gate(
        "pendulum-td3", "Pendulum-v1", "td3", 20_000, Demand("IQM", ">=", -175.0), 1, 50,
        {"learning_rate": 1e-3, "gamma": 0.98, "replay_capacity": 200_000, "learning_starts": 10_000},
        reference="-151.9", source=ZOO_TABLE, differs="50 steps and 50 gradient steps by turns, not 1 and 1",
    ),
    Gate(
        "pendulum-sac", "Pendulum-v1", "sac", 20_000, Demand("IQM", ">=", -175.0), 1, 50,
        {"learning_rate": 1e-3},
        reference="-157.0", source=ZOO_TABLE, differs="50 steps and 50 gradient steps by turns, not 1 and 1",
    ),
    Gate(
        "acrobot-dqn", "Acrobot-v1", "dqn", 100_000, Demand("IQM", ">=", -90.0), 1, 4, _ACROBOT_DQN,
        reference="-76.6", source=ZOO_TABLE,
        differs="the learning rate falls to 0, epsilon to .02 instead of .1; 2 gradient steps on 64 "
        "transitions every 4 steps instead of 4 on 128: with the Zoo's settings some deterministic episodes "
        "run into the time limit",
    ),
    Gate(
        "lunarlander-ppo", "LunarLander-v3", "ppo", 1_000_000, Demand("IQM", ">=", 220.0), 16, 1024,
        {"gamma": 0.999, "gae_lambda": 0.98, "n_epochs": 4, "entropy_coef": 0.01},
        reference="242.1 (v2)", source=ZOO_TABLE,
    ),
    Gate(
        "lunarlander-dqn", "LunarLander-v3", "dqn", 100_000, Demand("IQM", ">=", 130.0), 1, 16, _LANDER_DQN,
        reference="154.4 (v2)", source=ZOO_TABLE,
        differs="the learning rate falls from 1e-3 to 1e-4 instead of 6.3e-4 throughout, epsilon to .05 "
        "within 20 % instead of .1 within 12 %, the target is 500 instead of 250 steps old, 16 steps and 16 "
        "gradient steps by turns instead of 4 and 4: with the Zoo's settings the last policy depends on the "
        "moment",
    ),
    Gate(
        "cartpole-ppo-tf", "CartPole-v1", "ppo", 100_000, Demand(1.0, ">=", 475.0), 8, 128, _CARTPOLE_PPO,
        framework="tensorflow", reference="500.0", source=ZOO_TABLE, differs=_CARTPOLE_PPO_DIFFERS,
    ),
    Gate(
        "cartpole-ppo-jax", "CartPole-v1", "ppo", 100_000, Demand(1.0, ">=", 475.0), 8, 128, _CARTPOLE_PPO,
        framework="jax", reference="500.0", source=ZOO_TABLE, differs=_CARTPOLE_PPO_DIFFERS,
    ),
    Gate(
        "pendulum-sac-tf", "Pendulum-v1", "sac", 20_000, Demand("IQM", ">=", -175.0), 1, 50,
        {"learning_rate": 1e-3}, framework="tensorflow",
        reference="-157.0", source=ZOO_TABLE, differs="50 steps and 50 gradient steps by turns, not 1 and 1",
    ),
)  # fmt: skip


def find(names: list[str]) -> list[Gate]:
    """The gates of these names, in the order of `GATES`, with those that their demands rest on; all for none.

    Raises:
        ValueError: there is none of a name; says which there are.
    """
    known = {gate.name: gate for gate in GATES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no gate {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = set(names or known)
    wanted |= {other for name in wanted if (other := known[name].demand.rests_on) is not None}
    return [gate for gate in GATES if gate.name in wanted]
