"""PPO for discrete actions. The card is `optix_bus.agents.cards.ppo`."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.acting import CategoricalPolicy
from optix_bus.agents.batch import Batch, PPOUpdate
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.ppo_batch import make_batch
from optix_bus.agents.storage import mean_arrays, read_state, save_state
from optix_bus.agents.torch.acting import LiveActing
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.fast_ppo import FastPPO, why_not_fast
from optix_bus.agents.torch.networks import check_networks, describe, output_size
from optix_bus.agents.torch.parts import TrainedParts
from optix_bus.agents.torch.ppo_update import AutogradPPO
from optix_bus.agents.tunable import changed, complete
from optix_bus.errors import CheckpointError, ConfigurationError, LearningFailure, Unsuitable
from optix_bus.interfaces import Acting, BaseAgent
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays, SpaceSpec


class TorchPPOAgent(BaseAgent):
    """PPO with the clipped objective and GAE, for your own actor and critic.

    Nothing is kept between acting and learning: a window learns alike whoever acted it. Where the window says
    that it was acted by this very version of the policy (``metadata["policy_version"]``), or holds no
    log-probabilities at all, the old log-probabilities are recomputed; otherwise the recorded ones count.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to logits ``[B, n_actions]``.
        critic: observations to values ``[B, 1]``.
        optimizer: over the parameters of both.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        reward_normalizer: scales rewards before advantages are computed.
        obs_normalizer: scales observations. It learns from each window after the networks did, so that a
            window is acted and learnt with the same statistics.
        fast: compute the update by hand in NumPy, several times faster than automatic differentiation and
            the same to rounding: ``auto`` where networks and optimizer allow it, True insists, False never.
        seed: of acting, shuffling and perturbing; None takes it from torch's generator, so that
            ``torch.manual_seed`` covers it.
        spaces: checked against the networks when given.
    """

    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = PPO.min_episodes_before_dormant

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        fast: bool | Literal["auto"] = "auto",
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        small = describe(actor, "actor") is not None and describe(critic, "critic") is not None
        self._device = resolve_device(device, small=small)
        self._actor = actor.to(self._device)
        self._critic = critic.to(self._device)
        self._optimizer = optimizer
        self._reward_normalizer = reward_normalizer
        self._obs_normalizer = obs_normalizer
        if reward_normalizer is not None and not isinstance(reward_normalizer, RewardNormalizer):
            raise ConfigurationError(
                f"reward_normalizer is a {type(reward_normalizer).__name__}, expected a RewardNormalizer"
            )
        if spaces is not None:
            check_networks(self._actor, self._critic, spaces)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._hyperparams = complete(PPO, hyperparams, learning_rate=self._rates[0])
        self._apply_learning_rate()
        #: Version of the policy that acts now; one more after each window, and after every other change of
        #: the weights. Whoever numbers policies himself may set it.
        self.policy_version = 0
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        rng = np.random.default_rng(seed)
        self._learning_rng = rng.spawn(1)[0]
        self._acting = LiveActing(self._actor, obs_normalizer, self._device, rng)
        self._deterministic = False
        self._fast = fast
        if fast is True:
            self._way_to_update()

    @property
    def _parts(self) -> TrainedParts:
        normalizers = {"reward_normalizer": self._reward_normalizer, "obs_normalizer": self._obs_normalizer}
        statistics = {name: each for name, each in normalizers.items() if each is not None}
        return TrainedParts({"actor": self._actor, "critic": self._critic}, self._optimizer, statistics)

    def act(self, observation: Any) -> int:
        """Sample an action for one observation ``[*obs_shape]``."""
        return int(self.act_batch(np.asarray(observation)[None]).actions[0])

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int64 ``[B]``, log-probabilities float32 ``[B]``."""
        return self._acting.policy().act_batch(
            observations, deterministic=deterministic or self._deterministic
        )

    def action_probs(self, observation: Any) -> npt.NDArray[np.float32]:
        """Probability of each action for one observation, ``[n_actions]``."""
        return np.asarray(self._acting.policy().action_probs(np.asarray(observation)[None])[0])

    def policy(self) -> CategoricalPolicy:
        """The acting half with the weights of now; later learning does not change it."""
        return self._acting.snapshot()

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Within it, acting is deterministic."""
        before, self._deterministic = self._deterministic, True
        try:
            yield
        finally:
            self._deterministic = before

    def reseed(self, rng: np.random.Generator) -> None:
        """Act from this generator, exactly as `policy` would; shuffle and perturb from a child of it.

        Acting more or less therefore never changes how is learnt.
        """
        self._learning_rng = rng.spawn(1)[0]
        self._acting.reseed(rng)

    def reset_cache(self) -> None:
        """Look at the networks again before the next action.

        Needed only after replacing layers or networks, and after changes through ``parameter.data`` on a GPU;
        all other changes of weights are noticed.
        """
        self._acting.forget(self._actor, self._device)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """One PPO update from a window ``[T]`` or ``[T, B]``.

        Returns:
            policy_loss, value_loss, entropy, approx_kl, clip_fraction, loss and grad_norm as means over the
            last epoch; initial_kl and initial_ratio_error of the first minibatch; updates, samples,
            explained_variance (0 where the targets do not vary) and steps_without_successor.

        Raises:
            LearningFailure: something was not finite; weights, moments and statistics are as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions or observations that the networks are not made for.
        """
        experience = read_experience(episode_data)
        rewards_seen = None if self._reward_normalizer is None else self._reward_normalizer.state()
        way = self._way_to_update()
        batch = make_batch(
            experience,
            way,
            self._hyperparams.params,
            policy_version=self.policy_version,
            n_actions=output_size(self._actor),
            obs_normalizer=self._obs_normalizer,
            reward_normalizer=self._reward_normalizer,
        )
        report = way.update(batch, self._hyperparams.params, self._learning_rng)
        if not all(math.isfinite(value) for value in report.values()):
            if self._reward_normalizer is not None and rewards_seen is not None:
                self._reward_normalizer.load_state(rewards_seen)
            raise _failure(episode_data.episode_id, experience, batch, report)
        if self._obs_normalizer is not None:
            self._obs_normalizer.update(experience.observations[experience.valid])
        self._weights_changed(self.policy_version + 1)
        spread = float(np.var(batch.returns))
        explained = 1.0 - float(np.var(batch.returns - batch.values)) / spread if spread > 0.0 else 0.0
        return {
            **report,
            "explained_variance": explained,
            "samples": float(len(batch.actions)),
            "steps_without_successor": float(experience.without_successor),
        }

    def get_hyperparams(self) -> HyperparamSet:
        """A copy of all hyperparameters in force."""
        return self._hyperparams.copy()

    def set_hyperparams(self, hyperparams: HyperparamSet | Mapping[str, Any]) -> None:
        """Put the given hyperparameters into force; those not named stay.

        Raises:
            ConfigurationError: an unknown name, a wrong type or a value out of range; nothing has changed.
        """
        self._hyperparams = changed(PPO, self._hyperparams, hyperparams)
        self._apply_learning_rate()

    def state(self) -> NamedArrays:
        """Weights, moments and statistics, with the description of the policy.

        It depends on what was learnt, not on what was acted: random streams are not part of it.
        """
        arrays, optimizer = self._parts.arrays()
        metadata = {
            "algorithm": PPO.algorithm,
            "policy": self._acting.description,
            "policy_version": self.policy_version,
            "hyperparams": dict(self._hyperparams.params),
            "optimizer": optimizer,
        }
        return NamedArrays(arrays, metadata)

    def load_state(self, state: NamedArrays) -> None:
        """Go on from a state. The hyperparameters in force stay, so that a tuner keeps what it has set.

        Raises:
            CheckpointError: the state belongs to other networks; nothing has changed then.
        """
        if "optimizer" not in state.metadata:
            raise CheckpointError(
                f"found a state without an optimizer (metadata: {', '.join(state.metadata) or 'empty'}), "
                "expected one that state() of this agent made"
            )
        self._parts.load(state.arrays, state.metadata["optimizer"])
        self._apply_learning_rate()
        self._weights_changed(int(state.metadata.get("policy_version", self.policy_version + 1)))

    def save_weights(self, path: str) -> None:
        """Write `state` to ``path``: a file if it ends in ``.safetensors``, otherwise a folder."""
        save_state(self.state(), path)

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; hyperparameters in force stay."""
        self.load_state(read_state(path))

    def average_weights(self, paths: Sequence[str]) -> None:
        """Load the mean of several saved weights; the moments of the optimizer start anew."""
        parts = self._parts
        parts.load(mean_arrays([read_state(path) for path in paths], parts.prefixes), None)
        self._weights_changed(self.policy_version + 1)

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight of actor and critic by ``1 + noise_scale * N(0, 1)``."""
        self._parts.perturb(noise_scale, self._learning_rng)
        self._weights_changed(self.policy_version + 1)

    def teardown(self) -> None:
        """Give device memory back. The agent can still act afterwards, on the CPU."""
        if self._device.type == "cpu":
            return
        self._actor.cpu()
        self._critic.cpu()
        self._optimizer.state.clear()
        self._device = torch.device("cpu")
        self._acting.forget(self._actor, self._device)
        gc.collect()
        torch.cuda.empty_cache()

    def _way_to_update(self) -> PPOUpdate:
        # Asked for each window: users freeze layers, change the optimizer or replace networks in between.
        reason = "fast=False" if self._fast is False else ""
        reason = reason or why_not_fast(self._actor, self._critic, self._optimizer, self._device)
        if not reason:
            return FastPPO(self._actor, self._critic, self._optimizer)
        if self._fast is True:
            raise Unsuitable(
                f"fast=True, but the update cannot be computed by hand: {reason}; try fast='auto'"
            )
        return AutogradPPO(self._actor, self._critic, self._optimizer, self._device)

    def _weights_changed(self, version: int) -> None:
        self._acting.forget(self._actor, self._device)
        self.policy_version = version

    def _apply_learning_rate(self) -> None:
        # Groups keep the proportions that the user gave them.
        rate, first = self._hyperparams.params["learning_rate"], self._rates[0]
        for group, own in zip(self._optimizer.param_groups, self._rates, strict=True):
            value = rate * own / first if first > 0.0 else rate
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value


def _failure(
    window: int, experience: Experience, batch: Batch, report: Mapping[str, float]
) -> LearningFailure:
    ranges = {
        "rewards": experience.rewards[experience.valid],
        "observations": batch.observations,
        "values": batch.values,
        "returns": batch.returns,
        "advantages": batch.advantages,
        "log_probs": batch.log_probs,
    }
    found = ", ".join(f"{name} {array.min():.4g} to {array.max():.4g}" for name, array in ranges.items())
    bad = ", ".join(f"{name} {value}" for name, value in report.items() if not math.isfinite(value))
    return LearningFailure(
        f"window {window}: the PPO update is not finite ({bad}); the weights are as before it. The window "
        f"holds {found}. Try a lower learning_rate, or normalise observations and rewards"
    )
