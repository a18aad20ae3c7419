"""The PPO update with its gradient derived by hand.

With ``r`` the ratio of one row and ``A`` its advantage, averaged over ``n`` rows:

    d policy loss / d log p(a) = -(1/n) A r [r A <= clip(r) A]
    d value loss  / d value    =  (2/n) (v - R), or 0 where the clipped error is the larger one

What follows from the first, and from the entropy, is up to the head (`optix_bus.agents.fast.heads`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.heads import HandmadeHead, forbid
from optix_bus.agents.fast.mlp import FlatMLP, Float32

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


class HandmadePPO:
    """Actor and critic over one vector of parameters.

    Attributes:
        parameters: ``[count]``, the actor's first.
        gradients: like ``parameters``, of the last minibatch.
    """

    def __init__(self, actor: FlatMLP, critic: FlatMLP, head: HandmadeHead) -> None:
        self.head = head
        self.actor = actor
        self.critic = critic
        self.parameters: Float32 = np.zeros(actor.count + critic.count, np.float32)
        self.gradients: Float32 = np.zeros_like(self.parameters)
        self.actor_layers = actor.split(self.parameters[: actor.count])
        self.critic_layers = critic.split(self.parameters[actor.count :])
        self._actor_gradients = actor.split(self.gradients[: actor.count])
        self._critic_gradients = critic.split(self.gradients[actor.count :])

    def values(self, x: Float32) -> Float32:
        """V ``[n]`` of inputs ``[in + 1, n]``."""
        return np.array(self.critic.forward(self.critic_layers, x)[0])

    def log_probs(self, x: Float32, actions: Array, masks: Array | None = None) -> Float32:
        """Log-probabilities ``[n]`` of actions ``[n, ...]`` with masks ``[n, outputs]``."""
        allowed = None if masks is None else masks.T
        outputs = forbid(self.actor.forward(self.actor_layers, x), allowed)
        return np.asarray(self.head.evaluate(outputs, self.head.columns(actions))[0], np.float32)

    def update(
        self, x: Float32, batch: Batch, params: Params, adam: FlatAdam, rng: np.random.Generator
    ) -> dict[str, float]:
        """All epochs of one window, inputs ``[in + 1, N]``; see `optix_bus.agents.batch.PPOUpdate.update`."""
        rows, size, limit = len(batch.actions), params["minibatch_size"], params["target_kl"]
        columns = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values])
        taken = self.head.columns(batch.actions)
        masks = None if batch.masks is None else np.ascontiguousarray(batch.masks.T)
        initial: dict[str, float] = {}
        statistics: list[tuple[float, ...]] = []
        norms: list[float] = []
        updates, far = 0, False
        for epoch in range(params["n_epochs"]):
            order = rng.permutation(rows)
            inputs, numbers, actions = x[:, order], columns[:, order], taken[..., order]
            allowed = None if masks is None else masks[:, order]
            # Numbers about the update cost a sixth of it, and only the last epoch's are reported.
            report = epoch == params["n_epochs"] - 1 or limit is not None
            statistics, norms = [], []
            for start in range(0, rows, size):
                part = slice(start, start + size)
                exact = batch.on_policy and not initial
                found, ratio = self.differentiate(
                    inputs[:, part],
                    actions[..., part],
                    numbers[:, part],
                    params,
                    masks=None if allowed is None else allowed[:, part],
                    exact=exact,
                    report=report or not initial,
                )
                if found is not None:
                    statistics.append(found)
                if not initial and found is not None:
                    initial = {
                        "initial_kl": found[3],
                        "initial_ratio_error": float(np.abs(ratio - 1.0).max()),
                    }
                far = limit is not None and found is not None and found[3] > 1.5 * limit
                if far:
                    break
                norms.append(self._clip(params["max_grad_norm"]))
                adam.step(self.parameters, self.gradients)
                updates += 1
            if far:
                break
        means = np.mean(np.array(statistics), axis=0).tolist()
        grad_norm = float(np.mean(norms)) if norms else 0.0
        return {
            **dict(zip(STATISTICS, means, strict=True)),
            **initial,
            "grad_norm": grad_norm,
            "updates": float(updates),
        }

    def differentiate(
        self,
        x: Float32,
        actions: Array,
        numbers: Float32,
        params: Params,
        *,
        masks: Array | None = None,
        exact: bool = False,
        report: bool = True,
    ) -> tuple[tuple[float, ...] | None, Float32]:
        """Write the gradient of one minibatch into ``gradients``.

        Args:
            x: ``[in + 1, n]``.
            actions: rows last, as the head's ``columns`` gives them.
            numbers: ``[4, n]``, log_probs, advantages, returns and values as in `Batch`.
            params: hyperparameters of the card.
            masks: ``[outputs, n]`` bool of what is allowed.
            exact: the networks are still the ones that acted: the ratio is 1 by definition.
            report: also compute the numbers about it.

        Returns:
            `STATISTICS` (None without ``report``) and the ratios ``[n]``.
        """
        old, advantages, returns, old_values = numbers
        n = x.shape[1]
        log_probs, entropy = self.head.evaluate(
            forbid(self.actor.forward(self.actor_layers, x), masks), actions
        )
        log_ratio = np.zeros(n, np.float32) if exact else log_probs - old
        ratio = np.exp(log_ratio)
        if params["normalize_advantage"] and n > 1:
            centred = advantages - advantages.mean()
            advantages = centred / (np.sqrt(centred @ centred / (n - 1)) + 1e-8)
        clip, entropy_coef, vf_coef = params["clip_ratio"], params["entropy_coef"], params["vf_coef"]
        gain = ratio * advantages
        limited = np.clip(ratio, 1.0 - clip, 1.0 + clip) * advantages
        pull = np.where(gain <= limited, gain, 0.0)
        pull /= -n
        d = self.head.backward(pull, entropy_coef / n)
        self.actor.backward(self.actor_layers, self._actor_gradients, d)

        values = self.critic.forward(self.critic_layers, x)
        errors = values[0] - returns
        squares = errors * errors
        if params["clip_value"] is not None:
            moved = values[0] - old_values
            kept = np.clip(moved, -params["clip_value"], params["clip_value"])
            clipped_squares = np.square(old_values + kept - returns)
            errors = np.where((squares >= clipped_squares) | (kept == moved), errors, 0.0)
            squares = np.maximum(squares, clipped_squares)
        errors *= 2.0 * vf_coef / n
        self.critic.backward(self.critic_layers, self._critic_gradients, errors[None])

        if not report:
            return None, ratio
        policy_loss, value_loss = -float(np.minimum(gain, limited).mean()), float(squares.mean())
        mean_entropy = float(entropy.mean())
        kl = float((ratio - 1.0 - log_ratio).mean())
        clipped = float((np.abs(ratio - 1.0) > clip).mean())
        loss = policy_loss + vf_coef * value_loss - entropy_coef * mean_entropy
        return (policy_loss, value_loss, mean_entropy, kl, clipped, loss), ratio

    def _clip(self, limit: float) -> float:
        """Scale the gradients to at most this norm, as torch does; returns the norm before."""
        norm = float(np.sqrt(self.gradients @ self.gradients))
        if norm + 1e-6 > limit:
            self.gradients *= limit / (norm + 1e-6)
        return norm
