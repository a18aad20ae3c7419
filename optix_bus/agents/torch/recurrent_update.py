"""The PPO update through time: sequences of a window, each unrolled from the memory before it.

Truncated backpropagation as in Hausknecht and Stone 2015, https://arxiv.org/abs/1507.06527, with the memory
before a sequence recomputed from the window's first one: gradients end at the beginning of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from optix_bus.agents.experience import Experience
from optix_bus.agents.heads import Head
from optix_bus.agents.torch.ppo_update import AutogradPPO
from optix_bus.agents.torch.recurrent_networks import (
    Pieces,
    as_inputs,
    cut,
    encoded,
    features_of,
    memory_size,
    run,
    unrolled,
)
from optix_bus.errors import ConfigurationError
from optix_bus.rl import ObsNormalizer
from optix_bus.types import EpisodeData

Bools = npt.NDArray[np.bool_]

# Images that an encoder sees at once outside the update: bounds the memory that a long window takes.
_CHUNK = 4096


@dataclass(frozen=True)
class Unrolled:
    """A window as the present network sees it.

    Attributes:
        experience: the window, whose observations ``[T, B, H]`` are what the network makes of them, given
            what it remembers; so is what steps led to.
        inputs: ``[T, B, in]``, the observations as the network takes them, or ``[T, B, *obs_shape]`` as its
            encoder does.
        pieces: its sequences.
        memories: ``[K, S]``, before each sequence.
        places: ``[T, B]``, number of each row among the valid ones, -1 for the others.
    """

    experience: Experience
    inputs: Tensor
    pieces: Pieces
    memories: Tensor
    places: npt.NDArray[np.int64]


def resets_of(data: EpisodeData, experience: Experience) -> Bools:
    """``[T, B]``: the memory is emptied before this step.

    That is where an episode starts, and behind every end: also where the window of a user's own pipeline says
    nothing of starts.
    """
    shape = experience.rewards.shape
    resets = np.zeros(shape, bool)
    if data.episode_starts is not None:
        given = np.asarray(data.episode_starts, bool)
        given = given[:, None] if given.ndim == 1 else given
        if given.shape != shape:
            raise ConfigurationError(
                f"window {data.episode_id}: episode_starts have shape {given.shape}, expected {shape}, "
                "like the rewards"
            )
        resets |= given
    ends = experience.dones.copy()
    ends.reshape(-1)[experience.after_rows] = True
    resets[1:] |= ends[:-1]
    return resets


def first_memory(data: EpisodeData, rows: int, size: int) -> npt.NDArray[np.float32]:
    """``[B, S]`` before the first step, empty where the window does not say.

    Raises:
        ConfigurationError: it is the memory of another network.
    """
    if data.hidden_states is None:
        return np.zeros((rows, size), np.float32)
    given = np.array(data.hidden_states, np.float32)
    if given.size != rows * size or given.shape[-1] != size:
        raise ConfigurationError(
            f"window {data.episode_id}: hidden_states have shape {given.shape}, expected {(rows, size)}: "
            "what memory() of the policy was before the first step"
        )
    return given.reshape(rows, size)


def unroll(
    data: EpisodeData,
    experience: Experience,
    rnn: nn.GRU | nn.LSTM,
    length: int,
    normalizer: ObsNormalizer | None,
    device: torch.device,
    encoder: nn.Module | None = None,
) -> Unrolled:
    """Run the present network over a window, from the memory that it was acted with.

    Args:
        data: the window.
        experience: the same, read.
        rnn: the network.
        length: steps of a sequence.
        normalizer: of observations; it is only read.
        device: where the network lives.
        encoder: in front of it.

    Raises:
        ConfigurationError: ``hidden_states`` or ``episode_starts`` are of another shape.
        Unsuitable: the observations are not what the network takes.
    """

    def inputs_of(observations: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
        scaled = observations if normalizer is None else normalizer.normalize(observations)
        return as_inputs(np.asarray(scaled), rnn, device, encoder)

    def seen_by(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([encoded(part, encoder) for part in torch.split(inputs, _CHUNK)])

    steps, rows = experience.rewards.shape
    resets = resets_of(data, experience)
    flat = experience.observations.reshape(-1, *experience.observations.shape[2:])
    inputs = inputs_of(flat)
    known = seen_by(inputs).reshape(steps, rows, -1)
    first = torch.from_numpy(first_memory(data, rows, memory_size(rnn))).to(known)
    outputs, memories, behind = unrolled(rnn, known, resets, length, first)
    after = outputs.new_zeros((0, rnn.hidden_size))
    if len(experience.after_rows):
        before = behind.reshape(-1, behind.shape[-1])[torch.from_numpy(experience.after_rows).to(device)]
        with torch.no_grad():
            x = seen_by(inputs_of(experience.after)).unsqueeze(1 if rnn.batch_first else 0)
            after = run(rnn, x, before)[0].reshape(len(before), -1)
    places = np.full(experience.valid.size, -1)
    places[experience.valid.reshape(-1)] = np.arange(np.count_nonzero(experience.valid))
    seen = replace(experience, observations=outputs.float().cpu().numpy(), after=after.float().cpu().numpy())
    inputs = inputs.reshape(steps, rows, *inputs.shape[1:])
    return Unrolled(seen, inputs, cut(resets, length), memories, places.reshape(steps, rows))


class RecurrentPPO(AutogradPPO):
    """`AutogradPPO` whose minibatches are whole sequences, and whose gradients go on into the network.

    Args:
        rnn: the network.
        actor_head, critic_head: see what it puts out.
        optimizer: over the parameters of all of them.
        device: where they live.
        head: what becomes of the outputs of ``actor_head``.
        window: what is learnt from.
        encoder: in front of the network.
    """

    def __init__(
        self,
        rnn: nn.GRU | nn.LSTM,
        actor_head: nn.Module,
        critic_head: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        head: Head,
        window: Unrolled,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(actor_head, critic_head, optimizer, device, head)
        self._encoder = encoder
        self._rnn = rnn
        self._window = window

    @property
    def _modules(self) -> tuple[nn.Module, ...]:
        front = () if self._encoder is None else (self._encoder,)
        return (*front, self._rnn, *super()._modules)

    def _minibatches(
        self, tensors: tuple[Tensor, ...], size: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, ...]]:
        window = self._window
        count = len(window.memories)
        # As many whole sequences as hold this many transitions, were all of them full.
        longest = int(np.bincount(window.pieces.sequence, window.pieces.length).max())
        together = max(1, size // longest)
        order = rng.permutation(count)
        for start in range(0, count, together):
            pieces = window.pieces.of(order[start : start + together])
            features, steps, rows = features_of(
                self._rnn, window.inputs, pieces, window.memories, self._encoder
            )
            places = window.places[steps, rows]
            real = np.flatnonzero(places >= 0)
            if not len(real):
                continue
            if len(real) < len(places):
                features = features.index_select(0, torch.from_numpy(real).to(self._device))
            chosen = torch.from_numpy(places[real]).to(self._device)
            yield (features, *(tensor.index_select(0, chosen) for tensor in tensors[1:]))
