"""Windows from a stream of live data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError, EnvironmentFailure
from optix_bus.interfaces import Acting, BasePipeline
from optix_bus.pipelines.acting import Actor
from optix_bus.pipelines.feed import Feed, Item
from optix_bus.pipelines.infos import SparseInfos
from optix_bus.pipelines.masks import KEY
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]
#: Steps of the window, seconds since it began, whether an episode ended with the last step: is it over?
Boundary = Callable[[int, float, bool], bool]

#: How long to wait for an item before the end of the window, and a request to end, are looked at again.
_LOOK_SECONDS = 0.1
_DEFAULT_STEPS = 200
#: A reader that hangs in its source for longer is left behind.
_FAREWELL_SECONDS = 1.0


class LivePipeline(BasePipeline):
    """Acts on a stream of data that does not wait, e.g. prices; arrays of a window are ``[T, ...]``.

    ``data_source.stream()`` yields (observation, reward, terminated, truncated, info), one item a step, as
    ``step`` of an environment returns them: reward and ends are what followed from the action on the item
    before. Of the first item, and of the first after an end, only the observation counts. A source that
    wants to know the actions has ``act(action)``, which is called with each of them; one that has to be
    closed has ``close()``.

    A thread reads the stream, so nothing is lost while the agent learns, up to ``buffer_size`` items; then
    the oldest go and are counted. A step between whose two observations something is missing is no step: it
    is left out, and the recording before it ends as truncated. The same holds where the stream was opened
    again, which happens, with pauses that double up to 30 s, when it ends, raises or falls silent.

    ``metadata`` of a window holds, beside what other pipelines write, ``dropped_items``, ``gaps``,
    ``connections`` (streams opened so far) and ``lag_seconds``: the age of the oldest observation that was
    acted on.

    Args:
        data_source: see above.
        agent: what acts.
        episode_boundary_fn: ends a window: (steps, seconds, done) -> bool, see `every_n_steps`,
            `every_n_seconds` and `on_done_signal`; by default every 200 steps. Asked after each step, and ten
            times a second while nothing comes.
        buffer_size: items that wait at most.
        reconnect_on_disconnect: False to raise when the stream ends, raises or falls silent; what had been
            collected until then comes first.
        silence_seconds: no item for so long, and the stream counts as lost.
        reconnect_attempts: streams without a single item, one after the other, before it is given up.
    """

    def __init__(
        self,
        data_source: Any,
        agent: Any = None,
        episode_boundary_fn: Boundary | None = None,
        buffer_size: int = 1000,
        reconnect_on_disconnect: bool = True,
        *,
        silence_seconds: float = 60.0,
        reconnect_attempts: int = 10,
    ) -> None:
        if not callable(getattr(data_source, "stream", None)):
            raise ConfigurationError(
                f"found a data_source of type {type(data_source).__name__}, expected one with stream(), "
                "which yields (observation, reward, terminated, truncated, info)"
            )
        if buffer_size < 1 or reconnect_attempts < 0 or not silence_seconds > 0.0:
            raise ConfigurationError(
                f"found buffer_size={buffer_size}, silence_seconds={silence_seconds}, reconnect_attempts="
                f"{reconnect_attempts}, expected at least 1, more than 0 and at least 0"
            )
        self._source = data_source
        self._feed = Feed(
            data_source,
            buffer_size,
            reconnect=reconnect_on_disconnect,
            silence_seconds=silence_seconds,
            attempts=reconnect_attempts,
        )
        self._boundary = (
            self.every_n_steps(_DEFAULT_STEPS) if episode_boundary_fn is None else episode_boundary_fn
        )
        self._actor = Actor(agent) if agent is not None else None
        self._windows = self._total_steps = self._dropped = self._episodes = 0
        self._now: Item | None = None  # seen, and not acted on yet
        self._starts = True  # whether an episode begins with it
        self._return, self._length = 0.0, 0
        self._ended: EnvironmentFailure | None = None

    @staticmethod
    def every_n_steps(n: int) -> Boundary:
        """Windows of ``n`` steps."""
        _above("every_n_steps", n)
        return lambda steps, seconds, done: steps >= n

    @staticmethod
    def every_n_seconds(n: float) -> Boundary:
        """Windows of ``n`` seconds."""
        _above("every_n_seconds", n)
        return lambda steps, seconds, done: seconds >= n

    @staticmethod
    def on_done_signal() -> Boundary:
        """Windows of one episode, up to an item that is terminated or truncated."""
        return lambda steps, seconds, done: done

    @property
    def is_live(self) -> bool:
        """True: time does not wait for the loop."""
        return True

    def setup(self) -> None:
        """Open the stream. Calling it again does nothing."""
        self._feed.start()

    def teardown(self) -> None:
        """Read no more, and close the source where it can be closed."""
        self._feed.stop()
        if callable(getattr(self._source, "close", None)):
            self._source.close()
        self._feed.join(_FAREWELL_SECONDS)

    def set_agent(self, agent: Any) -> None:
        """Act with this agent or policy from the next observation on."""
        memory = self._actor.memory() if self._actor is not None else None
        self._actor = Actor(agent)
        if memory is not None:
            self._actor.load_memory(memory)

    def episodes(self) -> Iterator[EpisodeData]:
        """Windows, for as long as the stream lasts.

        Raises:
            EnvironmentFailure: the stream is over, or gave what is no item or not finite.
            ConfigurationError: there is no agent.
        """
        while True:
            yield self.collect()

    def collect(self, window: int | None = None, rng: np.random.Generator | None = None) -> EpisodeData:
        """Exactly one window; ``window`` is its number, ``rng`` the source of the policy's randomness.

        Raises:
            EnvironmentFailure: as `episodes`. What was collected before a stream was over is returned first.
        """
        if self._actor is None:
            raise ConfigurationError("this pipeline has no agent: build it with agent=..., or call set_agent")
        if self._ended is not None:
            raise self._ended
        self._feed.start()
        if rng is not None:
            self._actor.reseed(rng)
        filled = _LiveWindow(self._actor.memory())
        began = time.monotonic()
        with self._actor.steady():
            self._fill(self._actor, filled, began)
        self._windows = (self._windows if window is None else window) + 1
        self._total_steps += len(filled.rewards)
        data = filled.data(self._windows - 1)
        dropped, self._dropped = self._feed.dropped - self._dropped, self._feed.dropped
        data.metadata = {
            "environment": type(self._source).__name__,
            "environments": 1,
            "is_live": True,
            "window": self._windows - 1,
            "steps": data.length,
            "total_steps": self._total_steps,
            "episode_returns": filled.returns,
            "episode_lengths": filled.lengths,
            "dropped_items": dropped,
            "gaps": filled.gaps,
            "connections": self._feed.connections,
            "lag_seconds": filled.lag,
            "deterministic": False,
        }
        return data

    def _fill(self, actor: Actor, filled: _LiveWindow, began: float) -> None:
        acting: Acting | None = None
        done = False
        while not (filled.rewards and self._boundary(len(filled.rewards), time.monotonic() - began, done)):
            done = False
            if self._now is not None and acting is None:
                acting = self._act(actor, self._now, filled)
            try:
                item = self._feed.take(_LOOK_SECONDS)
            except EnvironmentFailure as over:
                self._ended, self._now = over, None
                if not filled.rewards:
                    raise
                filled.cut()
                return
            if item is None:
                continue
            _refuse_not_finite(item, self._source)
            if self._now is not None and acting is not None and item.follows:
                filled.add(self._now, acting, item, self._starts)
                self._return, self._length = self._return + item.reward, self._length + 1
                done = item.terminated or item.truncated
                if done:
                    filled.returns.append(self._return)
                    filled.lengths.append(self._length)
                self._starts = done
            else:
                filled.gaps += self._now is not None
                if self._length:
                    filled.cut()
                self._starts = True
                # Its reward and end belong to what was missed, and an observation after its end is a new one.
                done = False
            if self._starts:
                self._return, self._length = 0.0, 0
            # With an end comes the last observation of an episode: nothing is done about it.
            self._now = None if done else item
            acting = None

    def _act(self, actor: Actor, item: Item, filled: _LiveWindow) -> Acting:
        observation = np.asarray(item.observation)[None]
        if self._starts and actor.follows_starts:
            actor.episode_start(np.ones(1, bool))
        mask = item.info.get(KEY)
        acting = actor.act(observation, False, None if mask is None else np.asarray(mask, bool)[None])
        filled.lag = max(filled.lag, time.monotonic() - item.arrived)
        if callable(getattr(self._source, "act", None)):
            try:
                self._source.act(acting.actions[0])
            except Exception as error:
                name = type(self._source).__name__
                raise EnvironmentFailure(
                    f"{name}.act raised {type(error).__name__}: {error}. Nothing of this window is used"
                ) from error
        return acting


class _LiveWindow:
    """What has been collected; ``memory`` is that of the policy before the first step."""

    def __init__(self, memory: Array | None) -> None:
        self._memory = memory
        self._observations: list[Any] = []
        self._finals: list[Any] = []
        self._acting: list[Acting] = []
        self._masks: list[tuple[Any, Any]] = []
        self._starts: list[bool] = []
        self._terminated: list[bool] = []
        self._truncated: list[bool] = []
        self._infos: dict[int, dict[str, Any]] = {}
        self.rewards: list[float] = []
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.gaps = 0
        self.lag = 0.0

    def add(self, seen: Item, acting: Acting, led_to: Item, starts: bool) -> None:
        """One step: from an observation by an action to the item that followed."""
        if led_to.info:
            self._infos[len(self.rewards)] = dict(led_to.info)
        self._observations.append(np.array(seen.observation))
        self._finals.append(np.array(led_to.observation))
        self._acting.append(acting)
        self._masks.append((seen.info.get(KEY), led_to.info.get(KEY)))
        self._starts.append(starts)
        self._terminated.append(led_to.terminated)
        self._truncated.append(led_to.truncated and not led_to.terminated)
        self.rewards.append(led_to.reward)

    def cut(self) -> None:
        """What would have followed the last step is missing."""
        if self.rewards and not self._terminated[-1]:
            self._truncated[-1] = True

    def data(self, number: int) -> EpisodeData:
        """The whole window."""
        first = self._acting[0]
        masks = [mask for pair in self._masks for mask in pair if mask is not None]
        return EpisodeData(
            observations=np.stack(self._observations),
            actions=np.stack([np.array(acting.actions[0]) for acting in self._acting]),
            rewards=np.array(self.rewards, np.float32),
            terminated=np.array(self._terminated),
            truncated=np.array(self._truncated),
            infos=SparseInfos(len(self.rewards), self._infos),
            episode_id=number,
            final_observations=np.stack(self._finals),
            log_probs=None if first.log_probs is None else self._of_acting("log_probs"),
            values=None if first.values is None else self._of_acting("values"),
            episode_starts=np.array(self._starts),
            hidden_states=None if self._memory is None else self._memory[0],
            action_masks=self._side(0, masks[0]) if masks else None,
            final_action_masks=self._side(1, masks[0]) if masks else None,
        )

    def _of_acting(self, name: str) -> Array:
        return np.array([getattr(acting, name)[0] for acting in self._acting], np.float32)

    def _side(self, side: int, like: Any) -> Array:
        """``[T, entries]``; silence allows everything."""
        free = np.ones(np.asarray(like).shape, bool)
        return np.stack(
            [free if pair[side] is None else np.asarray(pair[side], bool) for pair in self._masks]
        )


def _refuse_not_finite(item: Item, source: Any) -> None:
    for what, value in (("observation", item.observation), ("reward", item.reward)):
        array = np.asarray(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EnvironmentFailure(
                f"{type(source).__name__} gave the {what} {value!r}, expected finite numbers. Nothing of "
                "this window is used"
            )


def _above(name: str, n: float) -> None:
    if not n > 0:
        raise ConfigurationError(f"found {name}({n}), expected more than 0")
