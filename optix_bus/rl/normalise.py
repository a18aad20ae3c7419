"""Running statistics, and the two normalisers built on them.

Moments are merged by Chan, Golub and LeVeque 1979 ("Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", equation 2.1b), the batch form of Welford's update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = np.ndarray[Any, Any]


class RunningMeanStd:
    """Mean and variance of everything seen so far, element by element, in float64.

    Args:
        shape: shape of one item.
        epsilon: weight, in items, of the prior (mean 0, variance 1) that stands until data arrive.
    """

    def __init__(self, shape: tuple[int, ...] = (), epsilon: float = 1e-4) -> None:
        self.shape = tuple(shape)
        self.mean: Array = np.zeros(self.shape, np.float64)
        self.var: Array = np.ones(self.shape, np.float64)
        self.count = float(epsilon)

    def update(self, x: npt.ArrayLike) -> None:
        """Take in items ``[..., *shape]``: one, or any number of leading axes."""
        items = np.asarray(x, np.float64)
        axes = items.ndim - len(self.shape)
        if axes < 0 or items.shape[axes:] != self.shape:
            raise ValueError(f"items have shape {items.shape}, expected (..., *{self.shape})")
        items = items.reshape(-1, *self.shape)
        if len(items) == 0:
            return
        total = self.count + len(items)
        delta = items.mean(axis=0) - self.mean
        squares = self.var * self.count + items.var(axis=0) * len(items)
        squares += np.square(delta) * (self.count * len(items) / total)
        self.mean = self.mean + delta * (len(items) / total)
        self.var = squares / total
        self.count = total

    def normalize(self, x: npt.ArrayLike, clip: float = 10.0) -> npt.NDArray[np.float32]:
        """``clip((x - mean) / sqrt(var + 1e-8))`` as float32."""
        scaled = (np.asarray(x, np.float64) - self.mean) / np.sqrt(self.var + 1e-8)
        return np.clip(scaled, -clip, clip).astype(np.float32)

    def state(self) -> dict[str, Array]:
        """Mean, variance and count as arrays."""
        return {"mean": np.array(self.mean), "var": np.array(self.var), "count": np.array(self.count)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` returned."""
        mean = np.array(state["mean"], np.float64)
        if mean.shape != self.shape:
            raise ValueError(f"saved statistics have shape {mean.shape}, expected {self.shape}")
        self.mean, self.var = mean, np.array(state["var"], np.float64)
        self.count = float(state["count"])


class ObsNormalizer:
    """Scales observations to mean 0 and variance 1, clipped; frozen in evaluation.

    Args:
        shape: shape of one observation; ``obs_shape`` is the same under its other published name.
        clip: bound of the result, in standard deviations.
    """

    def __init__(
        self,
        shape: tuple[int, ...] | None = None,
        clip: float = 10.0,
        *,
        obs_shape: tuple[int, ...] | None = None,
    ) -> None:
        if (shape is None) == (obs_shape is None):
            raise ValueError(f"found shape={shape} and obs_shape={obs_shape}, expected exactly one of them")
        chosen = obs_shape if shape is None else shape
        assert chosen is not None
        self.clip = float(clip)
        self.frozen = False
        self._moments = RunningMeanStd(tuple(chosen))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self._moments.shape

    @property
    def mean(self) -> Array:
        """Running mean, float64."""
        return self._moments.mean

    @property
    def var(self) -> Array:
        """Running variance, float64."""
        return self._moments.var

    @property
    def count(self) -> float:
        """Weight of what was seen so far, in observations."""
        return self._moments.count

    def update(self, obs: npt.ArrayLike) -> None:
        """Take in observations ``[..., *shape]``; nothing happens while ``frozen`` is True."""
        if not self.frozen:
            self._moments.update(obs)

    def normalize(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scaled and clipped observations, float32."""
        return self._moments.normalize(obs, self.clip)

    def state(self) -> dict[str, Array]:
        """The statistics as arrays."""
        return self._moments.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` returned."""
        self._moments.load_state(state)


class RewardNormalizer:
    """Divides rewards by the standard deviation of the discounted return; the sign stays.

    The mean is not subtracted: that would change which behaviour is best. The running return belongs to
    one environment and starts again at every episode end. As in Engstrom et al. 2020, "Implementation
    Matters in Deep RL", https://arxiv.org/abs/2005.12729, section 3.

    Args:
        gamma: discount of the running return.
        clip: bound of the scaled reward.
        epsilon: added to the variance.
    """

    def __init__(self, gamma: float = 0.99, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        self.gamma = float(gamma)
        self.clip = float(clip)
        self.epsilon = float(epsilon)
        self._moments = RunningMeanStd()
        self._returns: Array = np.zeros(())

    @property
    def std(self) -> float:
        """Standard deviation that rewards are divided by."""
        return float(np.sqrt(self._moments.var + self.epsilon))

    def step(self, reward: npt.ArrayLike) -> None:
        """Take in the rewards of one time step: a number, or ``[B]`` for B environments."""
        rewards = np.asarray(reward, np.float64)
        if self._returns.shape != rewards.shape:
            self._returns = np.zeros(rewards.shape)
        self._returns = self._returns * self.gamma + rewards
        self._moments.update(self._returns)

    def reset(self, ended: npt.ArrayLike | None = None) -> None:
        """Start the running return again: everywhere, or where the mask ``[B]`` says so."""
        self._returns = np.where(True if ended is None else np.asarray(ended, bool), 0.0, self._returns)

    def update(
        self, rewards: npt.ArrayLike, dones: npt.ArrayLike, valid: npt.ArrayLike | None = None
    ) -> None:
        """Take in a whole window ``[T]`` or ``[T, B]``, like `step` and `reset` row by row.

        Running returns go on where the last window stopped, as long as the number of environments is the
        same. Rows that are not ``valid`` leave no trace, except that they too end a running return.
        """
        r, ends = np.asarray(rewards, np.float64), np.asarray(dones, bool)
        real = np.ones(r.shape, bool) if valid is None else np.asarray(valid, bool)
        if ends.shape != r.shape or real.shape != r.shape:
            raise ValueError(
                f"dones {ends.shape}, valid {real.shape}: expected the shape of rewards, {r.shape}"
            )
        running = self._returns if self._returns.shape == r.shape[1:] else np.zeros(r.shape[1:])
        returns = np.empty_like(r)
        for t in range(len(r)):
            returns[t] = running = running * self.gamma + r[t]
            running = np.where(ends[t] | ~real[t], 0.0, running)
        self._returns = np.asarray(running)
        self._moments.update(returns[real])

    def normalize(self, rewards: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scaled and clipped rewards."""
        return np.clip(np.asarray(rewards, np.float64) / self.std, -self.clip, self.clip)

    def state(self) -> dict[str, Array]:
        """Statistics and running returns as arrays."""
        return {**self._moments.state(), "returns": np.array(self._returns)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` returned."""
        self._moments.load_state(state)
        self._returns = np.array(state["returns"], np.float64)
