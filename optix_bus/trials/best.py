"""The result of a search: a pair that also reads as a mapping of the params."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any


class BestTrial(tuple[Any, ...]):
    """``(params, score)``; by name it gives the params.

        best_params, best_score = orchestrator.run()
        best = orchestrator.run()
        best["learning_rate"], best.score, dict(best), make_agent(best)

    Iterating and ``len`` are those of the pair; ``in``, ``keys()``, ``items()``, ``values()``, ``get`` and
    ``dict(...)`` are those of the params.

    Attributes:
        number: of the trial in its study.
        weights_path: the weights that earned the score; empty where none were kept.
    """

    number: int
    weights_path: str

    def __new__(
        cls, params: Mapping[str, Any], score: float, *, number: int = -1, weights_path: str = ""
    ) -> BestTrial:
        """A pair of these."""
        made = super().__new__(cls, (dict(params), float(score)))
        made.number, made.weights_path = number, weights_path
        return made

    @property
    def params(self) -> dict[str, Any]:
        """The settings of the best trial."""
        return self._pair[0]

    @property
    def score(self) -> float:
        """What its best policy scored."""
        return self._pair[1]

    @property
    def _pair(self) -> tuple[dict[str, Any], float]:
        first, second = self
        return first, second

    def __getitem__(self, key: Any) -> Any:
        return self.params[key] if isinstance(key, str) else tuple.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.params if isinstance(key, str) else tuple.__contains__(self, key)

    def keys(self) -> KeysView[str]:
        """Names of the params."""
        return self.params.keys()

    def items(self) -> ItemsView[str, Any]:
        """The params."""
        return self.params.items()

    def values(self) -> ValuesView[Any]:
        """Values of the params."""
        return self.params.values()

    def get(self, key: str, default: Any = None) -> Any:
        """One of the params, or the default."""
        return self.params.get(key, default)


#: So that a check for a mapping, as agents make of hyperparameters, lets it in.
Mapping.register(BestTrial)
