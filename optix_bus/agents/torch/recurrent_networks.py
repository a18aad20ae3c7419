"""Recurrent networks: what fits, running them with a memory, windows split where episodes start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from optix_bus.agents.acting.recurrent import encode
from optix_bus.agents.torch.networks import check_network, floating_type
from optix_bus.agents.torch.recurrent_function import run_in_numpy, runs_in_numpy
from optix_bus.errors import Unsuitable
from optix_bus.types import SpaceSpec

Array = np.ndarray[Any, Any]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def cell_kind(rnn: nn.Module) -> str:
    """``gru`` or ``lstm``.

    Raises:
        Unsuitable: it is another kind of network, or one whose acting and learning would differ.
    """
    if not isinstance(rnn, nn.GRU | nn.LSTM):
        raise Unsuitable(f"the rnn is a {type(rnn).__name__}, expected a torch.nn.GRU or torch.nn.LSTM")
    problems = {
        "looks into the future (bidirectional=True)": rnn.bidirectional,
        "drops units (dropout > 0), so that acting and learning would differ": rnn.dropout > 0.0,
        "projects its hidden state (proj_size > 0)": rnn.proj_size > 0,
    }
    found = [problem for problem, given in problems.items() if given]
    if found:
        raise Unsuitable(f"the rnn {' and '.join(found)}; build it without")
    return "gru" if isinstance(rnn, nn.GRU) else "lstm"


def check_recurrent(
    rnn: nn.Module,
    actor_head: nn.Module,
    critic_head: nn.Module,
    n_actions: int | None,
    spaces: SpaceSpec | None,
    encoder: nn.Module | None = None,
) -> int:
    """The number of actions, where the networks fit each other and the environment.

    Raises:
        Unsuitable: says which of them does not, and what it should take and give.
    """
    cell_kind(rnn)
    assert isinstance(rnn, nn.GRU | nn.LSTM)
    if spaces is not None and encoder is not None:
        device, dtype = next(rnn.parameters()).device, floating_type(encoder)
        example = torch.zeros((2, *spaces.observation.shape), device=device, dtype=dtype)
        why = ", which the rnn takes"
        check_network("encoder", encoder, example, rnn.input_size, spaces.environment, why)
    elif spaces is not None:
        seen = spaces.observation
        inputs = seen.n if seen.kind == "discrete" else int(np.prod(seen.shape))
        if rnn.input_size != inputs:
            raise Unsuitable(
                f"the rnn takes {rnn.input_size} numbers, but {spaces.environment} shows {inputs}; "
                f"build it with input_size={inputs}"
            )
    actions = spaces.action.n if spaces is not None else n_actions
    like = next(rnn.parameters())
    features = torch.zeros((2, rnn.hidden_size), device=like.device, dtype=like.dtype)
    for name, head, wanted in (("actor_head", actor_head, actions), ("critic_head", critic_head, 1)):
        try:
            with torch.no_grad():
                found = list(head(features).shape)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Unsuitable(
                f"the {name} does not take the {rnn.hidden_size} outputs of the rnn: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if len(found) != 2 or found[0] != 2 or (wanted is not None and found[1] != wanted):
            raise Unsuitable(f"the {name} gives {found} for 2 rows, expected [2, {wanted or 'n_actions'}]")
        if name == "actor_head":
            actions = found[1]
    assert actions is not None
    return actions


def memory_size(rnn: nn.GRU | nn.LSTM) -> int:
    """Numbers that are remembered of each row."""
    return rnn.num_layers * rnn.hidden_size * (1 if isinstance(rnn, nn.GRU) else 2)


def run(rnn: nn.GRU | nn.LSTM, x: Any, memory: Tensor) -> tuple[Any, Tensor]:
    """Outputs of a sequence (packed, or in the layout of the network) and the memory ``[n, S]`` behind it."""
    rows = len(memory)
    parts = memory.reshape(rows, -1, rnn.num_layers, rnn.hidden_size).permute(1, 2, 0, 3).contiguous()
    if isinstance(rnn, nn.GRU):
        outputs, last = rnn(x, parts[0])
        behind = last[None]
    else:
        outputs, both = rnn(x, (parts[0], parts[1]))
        behind = torch.stack(both)
    return outputs, behind.permute(2, 0, 1, 3).reshape(rows, -1)


def as_inputs(
    observations: Array, rnn: nn.GRU | nn.LSTM, device: torch.device, encoder: nn.Module | None = None
) -> Tensor:
    """Observations ``[N, *obs_shape]`` as the first network takes them.

    The recurrent one takes ``[N, in]``. What an encoder takes stays as it is: images are bytes until it sees
    them.
    """
    if encoder is not None:
        return torch.from_numpy(np.array(observations)).to(device)
    x = np.array(encode(observations, rnn.input_size), np.float32)
    return torch.from_numpy(x).to(device, next(rnn.parameters()).dtype)


def encoded(inputs: Tensor, encoder: nn.Module | None) -> Tensor:
    """What `as_inputs` made as the recurrent network takes it, ``[N, in]``."""
    if encoder is None:
        return inputs
    found: Tensor = encoder(inputs.to(floating_type(encoder)))
    return found


@dataclass(frozen=True)
class Pieces:
    """Stretches of a window in which the memory runs on; none reaches beyond a reset or its sequence.

    Attributes:
        first, row, length: ``[M]``, of each piece the first step, the environment and the number of steps.
        sequence: ``[M]``, the number of the sequence that it is part of.
        fresh: ``[M]`` bool, it begins with an empty memory; the others with that of their sequence.
    """

    first: Ints
    row: Ints
    length: Ints
    sequence: Ints
    fresh: Bools

    def of(self, sequences: Sequence[int] | Ints) -> Pieces:
        """Those of some of the sequences."""
        chosen = np.isin(self.sequence, sequences)
        return Pieces(
            *(getattr(self, name)[chosen] for name in ("first", "row", "length", "sequence", "fresh"))
        )

    def steps(self) -> tuple[Ints, Ints, Bools]:
        """Steps and environments ``[M, L]``, L being the longest, and which of them are there."""
        ahead = np.arange(self.length.max())
        there = ahead < self.length[:, None]
        steps = np.where(there, self.first[:, None] + ahead, self.first[:, None])
        return steps, np.repeat(self.row[:, None], len(ahead), axis=1), there


def cut(resets: Bools, length: int) -> Pieces:
    """Pieces of a window ``[T, B]``; sequences have ``length`` steps, the last of each row perhaps fewer.

    Sequences are numbered stretch of time by stretch of time, within one by environment.

    Args:
        resets: ``[T, B]``, the memory is emptied before this step.
        length: steps through which gradients flow.
    """
    steps, rows = resets.shape
    begins = resets.copy()
    begins[::length] = True
    row, first = np.nonzero(begins.T)
    ends = np.append(first[1:], steps)
    ends[np.append(row[1:] != row[:-1], True)] = steps
    sequence = first // length * rows + row
    order = np.lexsort((first, sequence))
    return Pieces(first[order], row[order], (ends - first)[order], sequence[order], resets[first, row][order])


def features_of(
    rnn: nn.GRU | nn.LSTM,
    inputs: Tensor,
    pieces: Pieces,
    memories: Tensor,
    encoder: nn.Module | None = None,
) -> tuple[Tensor, Ints, Ints]:
    """Outputs ``[N, H]`` of the steps of all pieces in one call, with the step and environment of each.

    Pieces are padded at their ends, which no output before can see.

    Args:
        rnn: the network.
        inputs: ``[T, B, in]``, or what the encoder takes, ``[T, B, *obs_shape]``.
        pieces: of whole sequences.
        memories: ``[K, S]``, before each sequence of the window.
        encoder: in front of the network; gradients flow on into it.
    """
    steps, rows, there = pieces.steps()
    device = inputs.device
    # By number and not by mask: its gradient costs less.
    kept = torch.from_numpy(np.flatnonzero(there)).to(device)
    if encoder is None:
        x = inputs[torch.from_numpy(steps).to(device), torch.from_numpy(rows).to(device)]
    else:
        # Only what is there: seeing an image costs too much to do it for padding.
        chosen = (torch.from_numpy(each[there]).to(device) for each in (steps, rows))
        found = encoded(inputs[tuple(chosen)], encoder)
        x = found.new_zeros((there.size, found.shape[1])).index_copy(0, kept, found)
        x = x.reshape(*there.shape, -1)
    begun = memories[torch.from_numpy(pieces.sequence).to(device)]
    begun = begun * torch.from_numpy(~pieces.fresh).to(device, begun.dtype)[:, None]
    if isinstance(rnn, nn.GRU) and runs_in_numpy(rnn):
        outputs = run_in_numpy(rnn, x, begun)
    else:
        outputs, _ = run(rnn, x if rnn.batch_first else x.transpose(0, 1), begun)
        outputs = outputs if rnn.batch_first else outputs.transpose(0, 1)
    return outputs.reshape(-1, rnn.hidden_size).index_select(0, kept), steps[there], rows[there]


def unrolled(
    rnn: nn.GRU | nn.LSTM, inputs: Tensor, resets: Bools, length: int, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A whole window with the present weights, without gradients.

    Args:
        rnn: the network.
        inputs: ``[T, B, in]``.
        resets: ``[T, B]``, see `cut`.
        length: of a sequence.
        memory: ``[B, S]`` before the first step.

    Returns:
        Outputs ``[T, B, H]``, the memory before each sequence ``[K, S]``, and the memory behind each step
        that ends a piece, ``[T, B, S]``, 0 elsewhere.
    """
    pieces, rows = cut(resets, length), resets.shape[1]
    outputs = inputs.new_zeros((*inputs.shape[:2], rnn.hidden_size))
    behind = inputs.new_zeros((*inputs.shape[:2], memory.shape[1]))
    befores: list[Tensor] = []
    with torch.no_grad():
        for begin in range(0, len(resets), length):
            befores.append(memory)
            now = pieces.of(np.arange(rows) + begin // length * rows)
            steps, columns, there = now.steps()
            begun = memory[now.row].clone()
            begun[torch.from_numpy(now.fresh)] = 0.0
            x = inputs[torch.from_numpy(steps), torch.from_numpy(columns)]
            # Packed, because here the memory behind each piece is wanted, and not that behind its padding.
            lengths = torch.from_numpy(now.length)
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            found, last = run(rnn, packed, begun)
            padded, _ = pad_packed_sequence(found, batch_first=True)
            outputs[steps[there], columns[there]] = padded[torch.from_numpy(there).to(padded.device)]
            ends = now.first + now.length - 1
            behind[ends, now.row] = last
            memory = behind[min(begin + length, len(resets)) - 1]
    return outputs, torch.cat(befores), behind
