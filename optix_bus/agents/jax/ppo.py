"""PPO for discrete actions in JAX and Flax. The card is `optix_bus.agents.cards.ppo`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import linen as nn

from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import check_policy
from optix_bus.agents.heads import Head, head_for
from optix_bus.agents.images import is_image
from optix_bus.agents.jax.acting import FlaxActing
from optix_bus.agents.jax.device import resolve_device
from optix_bus.agents.jax.distributions import HOW
from optix_bus.agents.jax.images import build_cnn, image_weights
from optix_bus.agents.jax.networks import (
    Weights,
    build_mlp,
    check_networks,
    initial_weights,
    orthogonal_weights,
    shape_of,
)
from optix_bus.agents.jax.parts import FlaxParts
from optix_bus.agents.jax.ppo_program import Networks
from optix_bus.agents.jax.ppo_update import JaxPPO
from optix_bus.agents.masked_acting import ProbableActing
from optix_bus.agents.policy_learner import PolicyLearner
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import ArraySpec, HyperparamSet, SpaceSpec

#: Adam without its learning rate; epsilon as in the authors' code.
ADAM = optax.scale_by_adam(eps=1e-5)


class FlaxPPOAgent(ProbableActing, PolicyLearner):
    """PPO with the clipped objective and GAE, each update one compiled program; see `TorchPPOAgent`.

    The first window of a kind compiles for about a second, of images for some five; others of similar length,
    and every change of a number, use the same program.
    `optix_bus.agents.jax.device.use_compilation_cache` keeps programs on disk.

    Args:
        obs_dim: numbers in one observation, or its shape.
        n_actions: logits of the actor: one for each action, counted from 0; with ``spaces`` of several
            choices at once (MultiDiscrete) those of all side by side, of yes or no (MultiBinary) one each.
        hyperparams: what differs from the card's defaults.
        hidden_size: units of both layers of both networks, or the sizes of all their layers. Where ``spaces``
            say that observations are images, the networks are `optix_bus.agents.jax.images.build_cnn`.
        seed: of weights, acting, shuffling and perturbing; None draws one.
        actor: your own network, a ``flax.linen`` module: observations ``[B, *obs_shape]`` float32 to logits
            ``[B, n_actions]``. A ``Sequential`` of plain layers also acts in NumPy.
        critic: likewise, to values ``[B, 1]``.
        optimizer: an optax transformation without a learning rate, e.g. ``optax.scale_by_adam()``; the
            hyperparameter ``learning_rate`` scales what it gives.
        device: ``auto`` (the CPU), ``cpu``, ``gpu`` or ``gpu:N``.
        reward_normalizer: scales rewards before advantages are computed.
        obs_normalizer: scales observations. It learns from each window after the networks did.
        spaces: checked against the networks when given; discrete observations are taken one-hot.

    Raises:
        Unsuitable: a network does not fit.
        ConfigurationError: sizes or hyperparameters are out of range.
    """

    card = PPO
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = PPO.min_episodes_before_dormant

    _acting: FlaxActing

    def __init__(
        self,
        obs_dim: int | Sequence[int],
        n_actions: int,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        hidden_size: int | Sequence[int] = 64,
        seed: int | None = 0,
        *,
        actor: nn.Module | None = None,
        critic: nn.Module | None = None,
        optimizer: optax.GradientTransformation | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        where = resolve_device(device)
        shape = (obs_dim,) if isinstance(obs_dim, int) else tuple(obs_dim)
        sizes = (hidden_size, hidden_size) if isinstance(hidden_size, int) else tuple(hidden_size)
        if n_actions < 1 or not all(isinstance(size, int) and size > 0 for size in (*shape, *sizes)):
            raise ConfigurationError(
                f"found obs_dim {obs_dim}, n_actions {n_actions} and hidden_size {hidden_size}, expected "
                "whole numbers above 0"
            )
        if seed is None:
            seed = int(np.random.default_rng().integers(2**62))
        rng = np.random.default_rng([seed, 0])  # not the stream of acting, which begins at the seed itself
        if spaces is None:
            spaces = _spaces(shape, n_actions)
        self._choices = head_for(spaces.action)
        if type(self._choices) not in HOW or self._choices.outputs != n_actions:
            raise Unsuitable(
                f"actions of {spaces.environment} are {spaces.action.kind} and take "
                f"{self._choices.outputs} outputs, but n_actions is {n_actions}; expected discrete, "
                "multi_discrete or multi_binary ones"
            )
        one_hot = spaces.observation.n if spaces.observation.kind == "discrete" else 0
        modules: dict[str, Any] = {}
        weights: dict[str, Weights] = {}
        for name, given, outputs, gain in (("actor", actor, n_actions, 0.01), ("critic", critic, 1, 1.0)):
            if given is None and is_image(spaces.observation):
                modules[name] = build_cnn(outputs, shape=shape)
                weights[name] = image_weights(shape, outputs, gain, rng)
                continue
            modules[name], weights[name] = _network(given, shape, sizes, outputs, gain, one_hot, rng)
        networks = Networks.of(modules["actor"], modules["critic"])
        wanted = {"actor": n_actions, "critic": 1}
        check_networks({name: (modules[name], weights[name], wanted[name]) for name in modules}, spaces)
        self._known_shape = spaces.observation.shape
        self._way = JaxPPO(networks, weights, ADAM if optimizer is None else optimizer, where, self._choices)
        super().__init__(hyperparams, obs_normalizer, reward_normalizer, seed)

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {"optimizer": self._way.moments}

    @property
    def _parts(self) -> FlaxParts:
        return FlaxParts(self._way, self._statistics)

    def _first_rate(self) -> float:
        return float(PPO.defaults()["learning_rate"])

    def _apply_learning_rate(self) -> None:
        """Nothing to do: each update is given the one in force."""

    def _make_acting(self, rng: np.random.Generator) -> FlaxActing:
        return FlaxActing(self._way, self._obs_normalizer, rng, self._head)

    def reset_cache(self) -> None:
        """Look at the weights again before the next action; every change through the agent does so itself."""
        self._acting.forget()

    def _check_sizes(self, experience: Experience) -> None:
        actor, critic = (
            partial(shape_of, self._way.modules[name], self._way.weights[name])
            for name in ("actor", "critic")
        )
        check_policy(experience, self._choices, "actor", actor, critic)

    def _actions(self) -> Head:
        return self._choices

    def _way_to_update(self) -> JaxPPO:
        return self._way

    def teardown(self) -> None:
        """Give device memory back. The agent can still act and learn afterwards, on the CPU."""
        self._way.move(jax.devices("cpu")[0])
        self.reset_cache()


def _spaces(shape: tuple[int, ...], n_actions: int) -> SpaceSpec:
    return SpaceSpec(
        "the environment", ArraySpec("box", shape, "float32"), ArraySpec("discrete", (), "int64", n=n_actions)
    )


def _network(
    given: nn.Module | None,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    outputs: int,
    output_gain: float,
    one_hot: int,
    rng: np.random.Generator,
) -> tuple[nn.Module, Weights]:
    if given is not None:
        return given, initial_weights(given, shape, rng)
    module = build_mlp(sizes, outputs, one_hot=one_hot)
    return module, orthogonal_weights(module, one_hot or math.prod(shape), output_gain, rng)
