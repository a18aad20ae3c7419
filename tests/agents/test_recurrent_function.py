"""Sequences in NumPy: outputs and gradients are those of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optix_bus.agents.torch.recurrent_function import run_in_numpy, runs_in_numpy
from optix_bus.agents.torch.recurrent_networks import memory_size, run

CASES = [{}, {"num_layers": 3}, {"bias": False}, {"num_layers": 2, "batch_first": True}]


def gradients(rnn: Any, x: Tensor, outputs: Tensor, weight: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((outputs * weight).sum(), [x, *rnn.parameters()]))


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (5, 16), (16, 7)])
@pytest.mark.parametrize("options", CASES)
def test_outputs_and_gradients_of_sequences_are_those_of_torch(options: Any, rows: int, steps: int) -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 6, **options)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(2.0)
    assert runs_in_numpy(rnn)
    x = torch.randn(rows, steps, 3, requires_grad=True)
    memory = torch.randn(rows, memory_size(rnn)) * 0.5
    weight = torch.randn(rows, steps, 6)
    weight[0, steps // 2 :] = 0.0  # a sequence that ends before the others
    found = run_in_numpy(rnn, x, memory)
    expected, _ = run(rnn, x if rnn.batch_first else x.transpose(0, 1), memory)
    expected = expected if rnn.batch_first else expected.transpose(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    pairs = zip(gradients(rnn, x, found, weight), gradients(rnn, x, expected, weight), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


def test_nothing_is_computed_for_inputs_that_need_no_gradient_and_frozen_weights_get_none() -> None:
    rnn = nn.GRU(3, 4)
    rnn.weight_ih_l0.requires_grad_(False)
    outputs = run_in_numpy(rnn, torch.randn(2, 5, 3), torch.zeros(2, 4))
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert rnn.weight_ih_l0.grad is None
    assert rnn.weight_hh_l0.grad is not None
    assert rnn.weight_hh_l0.grad.any()


class Subclass(nn.GRU):
    """It may compute anything."""


def hooked() -> nn.GRU:
    rnn = nn.GRU(3, 4)
    rnn.register_forward_hook(lambda *_: None)
    return rnn


@pytest.mark.parametrize("rnn", [nn.GRU(3, 4).double(), nn.LSTM(3, 4), Subclass(3, 4), hooked()])
def test_what_may_compute_something_else_is_left_to_torch(rnn: nn.Module) -> None:
    assert not runs_in_numpy(rnn)


def test_extreme_gates_saturate_and_stay_finite() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4)
    x = (torch.randn(2, 6, 3) * 1e4).requires_grad_()
    outputs = run_in_numpy(rnn, x, torch.zeros(2, memory_size(rnn)))
    assert np.isfinite(outputs.detach().numpy()).all()
    assert all(torch.isfinite(each).all() for each in gradients(rnn, x, outputs, torch.ones(2, 6, 4)))
