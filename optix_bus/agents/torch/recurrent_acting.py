"""Acting from a live recurrent network, with a memory that outlives the policies of single windows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.agents.acting.load import FORMAT, make_policy
from optix_bus.agents.acting.recurrent import Memory, RecurrentPolicy, cell_names
from optix_bus.agents.torch.acting import TorchActing
from optix_bus.agents.torch.arrays import module_arrays
from optix_bus.agents.torch.images import describe_front
from optix_bus.agents.torch.networks import describe
from optix_bus.agents.torch.recurrent_networks import as_inputs, cell_kind, encoded, memory_size, run
from optix_bus.rl import ObsNormalizer

Array = np.ndarray[Any, Any]


def encoder_of(actor: nn.ModuleDict) -> nn.Module | None:
    """What stands in front of the recurrent network, if anything does."""
    return dict(actor.items()).get("encoder")


class TorchRecurrentStep:
    """`optix_bus.agents.acting.recurrent.Step` of a network that NumPy cannot run."""

    def __init__(self, actor: nn.ModuleDict, normalizer: ObsNormalizer | None, device: torch.device) -> None:
        self._actor = actor
        self._normalizer = normalizer
        self._device = device

    def __call__(self, observations: Array, memory: Array) -> tuple[Array, int, Array]:
        """One step of all rows."""
        rnn, head = self._actor["rnn"], self._actor["actor_head"]
        assert isinstance(rnn, nn.GRU | nn.LSTM)
        encoder = encoder_of(self._actor)
        scaled = observations if self._normalizer is None else self._normalizer.normalize(observations)
        training = {module: module.training for module in (head, encoder) if module is not None}
        for module in training:
            module.eval()
        with torch.no_grad():
            inputs = as_inputs(np.asarray(scaled), rnn, self._device, encoder)
            x = encoded(inputs, encoder).unsqueeze(1 if rnn.batch_first else 0)
            before = torch.from_numpy(np.array(memory)).to(x)
            features, behind = run(rnn, x, before)
            outputs = head(features.reshape(len(observations), -1))
        for module, was in training.items():
            module.train(was)
        made, following = (tensor.float().cpu().numpy().copy() for tensor in (outputs, behind))
        return made, len(made), following


class TorchRecurrentActing(TorchActing):
    """As `TorchActing`, for ``rnn`` and ``actor_head``; policies change, what they remember goes on.

    Args:
        actor: both of them, by these names, and perhaps an ``encoder`` in front.
        normalizer, device, rng, head: see `TorchActing`.
    """

    def __init__(
        self,
        actor: nn.ModuleDict,
        normalizer: ObsNormalizer | None,
        device: torch.device,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._kept: Array | None = None
        super().__init__(actor, normalizer, device, rng, head, "actor_head")

    @property
    def description(self) -> dict[str, Any]:
        """What `optix_bus.agents.acting.load_policy` needs to know beside the arrays."""
        description = super().description
        if self._layers is None:
            return description
        rnn = self._rnn
        cells = cell_names("rnn", rnn.num_layers, rnn.bias)
        front = {} if self._front is None else {"encoder": self._front}
        return {**description, **front, "kind": "recurrent", "cell": cell_kind(rnn), "cells": list(cells)}

    def policy(self) -> RecurrentPolicy:
        """The policy of this moment, with the memory of the last one; keep it no longer than one call."""
        before = self._policy
        policy: RecurrentPolicy = super().policy()
        if policy is not before:
            policy.load_memory(self._kept if before is None else before.memory())
        return policy

    def forget(self, actor: nn.Module, device: torch.device) -> None:
        """Look at the networks anew before the next action; the memory stays."""
        assert isinstance(actor, nn.ModuleDict)
        if self._policy is not None:
            self._kept = self._policy.memory()
        super().forget(actor, device)
        rnn = actor["rnn"]
        assert isinstance(rnn, nn.GRU | nn.LSTM)
        self._rnn: nn.GRU | nn.LSTM = rnn
        plain = type(self._rnn) in (nn.GRU, nn.LSTM) and not (
            self._rnn._forward_hooks or self._rnn._forward_pre_hooks or "forward" in vars(self._rnn)
        )
        single = all(parameter.dtype is torch.float32 for parameter in self._parameters)
        encoder = encoder_of(actor)
        self._front = None if encoder is None else describe_front(encoder, "encoder")
        known = plain and single and (encoder is None or self._front is not None)
        self._layers = describe(actor["actor_head"], "actor_head") if known else None

    def snapshot(self, share: bool = False) -> Any:
        """A policy with copies of the weights and an empty memory."""
        if self._layers is not None:
            return super().snapshot(share)
        normalizer = self._normalizer if share else copy.deepcopy(self._normalizer)
        actor = self._actor if share else copy.deepcopy(self._actor)
        assert isinstance(actor, nn.ModuleDict)
        memory = Memory(TorchRecurrentStep(actor, normalizer, self._device), memory_size(self._rnn))
        return RecurrentPolicy(memory, make_policy(memory, {"format": FORMAT, **self._head()}, self._rng))

    def _arrays(self) -> dict[str, Array]:
        assert isinstance(self._actor, nn.ModuleDict)
        arrays: dict[str, Array] = {}
        for name, module in self._actor.items():
            arrays |= module_arrays(name, module)
        return arrays
