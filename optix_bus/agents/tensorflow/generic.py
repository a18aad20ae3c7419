"""A policy-gradient agent around any Keras model: REINFORCE, or A2C with values. The card is `cards.a2c`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import check_policy
from optix_bus.agents.heads import Categorical, Gaussian, Head, head_for
from optix_bus.agents.masked_acting import MaskedActing
from optix_bus.agents.policy_learner import PolicyLearner
from optix_bus.agents.tensorflow.a2c_update import GraphPolicyGradient, Loss
from optix_bus.agents.tensorflow.base import TensorFlowLearner, trainable
from optix_bus.agents.tensorflow.networks import check_outputs, output_size, shape_of
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class TFAgent(MaskedActing, PolicyLearner, TensorFlowLearner):
    """One policy-gradient step for each window, for any Keras model of yours; see `TorchAgent`, its twin.

    Without values this is REINFORCE: the return from each step to the end of its episode, where what comes
    after a truncation or after the window counts as 0. With values, from a ``critic`` or as the model's
    second output, it is A2C: cut episodes go on with the value of what followed, and the advantage is what
    was earned beyond the value.

    Args:
        model: observations ``[B, *obs_shape]`` float32 to logits ``[B, n_actions]``, to ``[mean | log_std]``
            ``[B, 2 action_dim]`` of continuous actions, or to a pair of those and values ``[B, 1]``.
        optimizer: of Keras, new; it moves the variables of the model and the critic.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        compute_loss_fn: ``(model, PolicyBatch) -> loss``, instead of the loss of A2C; see
            `optix_bus.agents.policy_batch.PolicyBatch`. It becomes part of a graph: it is called once, while
            that is traced, and computes with tensors.
        critic: observations to values ``[B, 1]``.
        action_dim: numbers in a continuous action, in the units of the environment; None for discrete ones.
        obs_normalizer: scales observations; learns from each window after the networks did.
        reward_normalizer: scales rewards before advantages are computed.
        seed: of acting and perturbing; None takes it from TensorFlow's generator.
        spaces: checked against the networks when given, and says what the actions are.

    Raises:
        Unsuitable: the networks do not fit the spaces, or give another number of outputs than actions need.
        ConfigurationError: the model is none of Keras, or has no weights yet.
    """

    card = A2C
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(A2C.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(A2C.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = A2C.min_episodes_before_dormant

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        compute_loss_fn: Loss | None = None,
        *,
        critic: Any | None = None,
        action_dim: int | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        #: The network that acts; replace it only together with the optimizer.
        self.model = model
        self._critic = critic
        self._optimizer = optimizer
        self._compute_loss_fn = compute_loss_fn
        self._update: GraphPolicyGradient | None = None
        self._given_head: Head | None = None
        if spaces is not None:
            self._given_head = head_for(spaces.action)
        elif action_dim is not None:
            self._given_head = Gaussian((action_dim,))
        super().__init__(hyperparams, obs_normalizer, reward_normalizer, seed, spaces)
        wanted, found = self._actions().outputs, output_size(model)
        if spaces is not None and wanted is not None:
            inputs, name = spaces.observation.shape, spaces.environment
            check_outputs("model", model, inputs, wanted, name)
            if critic is not None:
                check_outputs("critic", critic, inputs, 1, name)
                self._known_shape = inputs
        elif found not in (None, wanted):
            raise Unsuitable(
                f"the model gives {found} numbers, expected {wanted}: [mean | log_std] of {action_dim} "
                "actions; a log_std that depends on no observation is one more layer, "
                "optix_bus.agents.tensorflow.networks.AppendConstant"
            )

    @property
    def _models(self) -> Mapping[str, Any]:
        return {"model": self.model, **({} if self._critic is None else {"critic": self._critic})}

    @property
    def _optimizers(self) -> Mapping[str, Any]:
        return {"optimizer": self._optimizer}

    @property
    def _actor_name(self) -> str:
        return "model"

    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        return trainable(*self._models.values())

    def _actions(self) -> Head:
        return self._given_head or Categorical(output_size(self.model))

    def _check_sizes(self, experience: Experience) -> None:
        outputs = partial(shape_of, self.model)
        values = partial(outputs, place=1) if self._critic is None else partial(shape_of, self._critic)
        check_policy(experience, self._actions(), "model", outputs, values)

    @property
    def traces(self) -> int:
        """How often the update was traced, see `GraphPolicyGradient`."""
        return 0 if self._update is None else self._update.traces

    def _way_to_update(self) -> GraphPolicyGradient:
        # Asked for each window: users freeze layers or replace networks in between.
        parts = (self.model, self._critic, self._optimizer)
        if self._update is None or not self._update.is_for(*parts, self._compute_loss_fn):
            self._update = GraphPolicyGradient(*parts, self._actions(), self._compute_loss_fn)
        return self._update
