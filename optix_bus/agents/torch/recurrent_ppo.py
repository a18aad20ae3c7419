"""PPO with a memory. The card is `optix_bus.agents.cards.recurrent_ppo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.recurrent_ppo import RECURRENT_PPO
from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.first_window import HeldAgainstWindows, check_shape
from optix_bus.agents.heads import Categorical
from optix_bus.agents.masked_acting import MaskedActing
from optix_bus.agents.ppo_learning import learn_experience
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.networks import describe, shape_of
from optix_bus.agents.torch.recurrent_acting import TorchRecurrentActing
from optix_bus.agents.torch.recurrent_networks import check_recurrent
from optix_bus.agents.torch.recurrent_update import RecurrentPPO, unroll
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, SpaceSpec


class TorchRecurrentPPOAgent(HeldAgainstWindows, MaskedActing, TorchLearner):
    """PPO for discrete actions whose policy and value share a GRU or LSTM, for what one observation hides.

    It remembers each environment of a batch on its own. Pipelines say where episodes begin; whoever steps an
    environment himself calls `episode_start`, or `reset_hidden`. Learning begins at the memory that a window
    was acted with (``hidden_states``; empty where the window has none), recomputes what follows with the
    present weights and sends gradients back through ``bptt_len`` steps. The memory is emptied at the starts
    of episodes alike in acting and in learning, so nothing leaks from one episode into the next. Actions that
    ``info["action_mask"]`` forbids are never chosen and have no part in the update; the memory takes in what
    was observed, whatever was allowed then.

    Args:
        rnn: a ``torch.nn.GRU`` or ``torch.nn.LSTM`` over observations, of any number of layers,
            ``batch_first`` or not. Discrete observations reach it as rows of the unit matrix.
        actor_head: its outputs ``[N, hidden_size]`` to logits ``[N, n_actions]``.
        critic_head: its outputs to values ``[N, 1]``.
        optimizer: over the parameters of all of them.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        reward_normalizer: scales rewards before advantages are computed.
        obs_normalizer: scales observations; it learns from each window after the networks did.
        n_actions: checked against ``actor_head`` when given.
        seed: of acting, shuffling and perturbing; None takes it from torch's generator.
        spaces: checked against the networks when given.
        encoder: observations ``[N, *obs_shape]`` to what ``rnn`` takes, ``[N, in]``; it learns with the
            others. It acts in NumPy with them where `optix_bus.agents.torch.images.describe_front` knows it,
            as it does the convolutions of `optix_bus.agents.torch.images.build_encoder`.

    Raises:
        Unsuitable: the networks do not fit each other or the spaces.
    """

    card: ClassVar[Card] = RECURRENT_PPO
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(RECURRENT_PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(RECURRENT_PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = RECURRENT_PPO.min_episodes_before_dormant
    _acting: TorchRecurrentActing

    def __init__(
        self,
        rnn: nn.GRU | nn.LSTM,
        actor_head: nn.Module,
        critic_head: nn.Module,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        n_actions: int | None = None,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        feeding = [module for module in (encoder, actor_head, critic_head) if module is not None]
        small = all(describe(module, "") is not None for module in feeding)
        where = resolve_device(device, small=small)
        self._encoder = None if encoder is None else encoder.to(where)
        self._rnn = rnn.to(where)
        self._actor_head = actor_head.to(where)
        self._critic_head = critic_head.to(where)
        self._optimizer = optimizer
        self._n_actions = check_recurrent(rnn, actor_head, critic_head, n_actions, spaces, encoder)
        self._known_shape = None if spaces is None else spaces.observation.shape
        super().__init__(hyperparams, where, obs_normalizer, reward_normalizer, seed)

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {**self._actor(), "critic_head": self._critic_head}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"optimizer": self._optimizer}

    def _actor(self) -> nn.ModuleDict:
        front = {} if self._encoder is None else {"encoder": self._encoder}
        return nn.ModuleDict({**front, "rnn": self._rnn, "actor_head": self._actor_head})

    def _check_sizes(self, experience: Experience) -> None:
        """The recurrent network says itself what it does not take, its encoder is tried."""
        if self._encoder is not None:
            sizes = [2, self._rnn.input_size]
            check_shape(experience, "encoder", partial(shape_of, self._encoder, self._device), sizes)

    def _make_acting(self, rng: np.random.Generator) -> TorchRecurrentActing:
        return TorchRecurrentActing(self._actor(), self._obs_normalizer, self._device, rng, self._head)

    def reset_cache(self) -> None:
        """See `TorchLearner.reset_cache`; what is remembered of open episodes stays."""
        self._acting.forget(self._actor(), self._device)

    def action_probs(self, observation: Any) -> npt.NDArray[np.float32]:
        """Probability of each action for one observation after what is remembered, ``[n_actions]``.

        Nothing is added to the memory; where it holds several environments, an empty one is taken.
        """
        before = self.memory()
        probabilities = self._acting.policy().action_probs(np.asarray(observation)[None])[0]
        self.load_memory(before)
        return np.asarray(probabilities)

    def episode_start(self, mask: npt.NDArray[np.bool_]) -> None:
        """Forget the environments ``[B]`` bool in which an episode begins with the next observation."""
        self._acting.policy().episode_start(mask)

    def reset_hidden(self) -> None:
        """Forget everything: an episode begins with the next observation in every environment."""
        self.load_memory(None)

    def memory(self) -> npt.NDArray[np.float32] | None:
        """What is remembered before the next observation, ``[B, S]``; None where that is nothing."""
        return self._acting.policy().memory()

    def load_memory(self, memory: npt.NDArray[np.float32] | None) -> None:
        """Go on with what `memory` returned."""
        self._acting.policy().load_memory(memory)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """One PPO update from a window ``[T]`` or ``[T, B]``.

        Returns:
            What `TorchPPOAgent.learn` does.

        Raises:
            LearningFailure: something was not finite; weights, moments and statistics are as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions or observations that the networks are not made for.
        """
        experience = read_experience(episode_data)
        self._check_window(experience)
        params = self._hyperparams.params
        window = unroll(
            episode_data,
            experience,
            self._rnn,
            params["bptt_len"],
            self._obs_normalizer,
            self._device,
            self._encoder,
        )
        head = Categorical(self._n_actions)
        networks = (self._rnn, self._actor_head, self._critic_head)
        report = learn_experience(
            window.experience,
            episode_data.episode_id,
            RecurrentPPO(*networks, self._optimizer, self._device, head, window, self._encoder),
            params,
            self._learning_rng,
            reward_normalizer=self._reward_normalizer,
            policy_version=self.policy_version,
            head=head,
        )
        if self._obs_normalizer is not None:
            self._obs_normalizer.update(experience.observations[experience.valid])
        self._weights_changed(self.policy_version + 1)
        return report
