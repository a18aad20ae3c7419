"""A GRU whose outputs and gradients are computed in NumPy, as a part of torch's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.fast.recurrent import GRUSequence, Weights


def runs_in_numpy(rnn: nn.Module) -> bool:
    """Whether `run_in_numpy` gives what the network would: a plain GRU in float32 on the CPU, no hooks."""
    if type(rnn) is not nn.GRU or "forward" in vars(rnn):
        return False
    if rnn._forward_hooks or rnn._forward_pre_hooks or rnn._backward_hooks or rnn._backward_pre_hooks:
        return False
    return all(p.dtype is torch.float32 and p.device.type == "cpu" for p in rnn.parameters())


def run_in_numpy(rnn: nn.GRU, inputs: Tensor, memory: Tensor) -> Tensor:
    """Outputs ``[M, L, H]`` of inputs ``[M, L, in]``; gradients flow to inputs and weights alone.

    Args:
        rnn: one that `runs_in_numpy`.
        inputs: sequences.
        memory: ``[M, S]`` before the first step.
    """
    x, size = inputs.transpose(0, 1), rnn.hidden_size
    for layer in range(rnn.num_layers):
        names = [f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        weights = [getattr(rnn, name, None) for name in names]
        hidden = memory[:, layer * size : (layer + 1) * size]
        x = _Sequence.apply(x, hidden, *weights)  # type: ignore[no-untyped-call]
    return x.transpose(0, 1)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: Tensor, *weights: Tensor | None) -> Tensor:
        width = 3 * hidden.shape[1]
        arrays = [np.zeros(width, np.float32) if w is None else w.detach().numpy() for w in weights]
        with np.errstate(all="ignore"):  # what is not finite is found, and reported, at the end of the window
            sequence = GRUSequence(np.ascontiguousarray(x.detach().numpy()), hidden.numpy(), Weights(*arrays))
        ctx.sequence, ctx.biases = sequence, weights[2] is not None
        return torch.from_numpy(sequence.outputs)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        with np.errstate(all="ignore"):
            found = ctx.sequence.gradients(np.ascontiguousarray(outputs[0].numpy()))
        biases = (found.bias_ih, found.bias_hh) if ctx.biases else ()
        arrays = [torch.from_numpy(each) for each in (found.ih, found.hh, *biases)]
        inputs = torch.from_numpy(found.inputs) if ctx.needs_input_grad[0] else None
        return (inputs, None, *arrays, *([None] * (4 - len(arrays))))
