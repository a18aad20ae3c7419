"""Where a node's words go.

Most nodes never say one, and the library behind this takes half the time in which a light process starts: it
is loaded with the first word.
"""

from __future__ import annotations

from typing import Any


class NodeLog:
    """Structured log lines of one node.

    Args:
        node: bound to every line.
        plain: for log files: a stamp, the level and no colours, whatever the application has configured.
    """

    def __init__(self, node: str, *, plain: bool = False) -> None:
        self._node = node
        self._plain = plain
        self._logger: Any = None

    def debug(self, event: str, **details: Any) -> None:
        """Of interest to whoever looks for a mistake."""
        self._bound().debug(event, **details)

    def info(self, event: str, **details: Any) -> None:
        """Of interest to whoever follows the run."""
        self._bound().info(event, **details)

    def warning(self, event: str, **details: Any) -> None:
        """Something is not as it should be, and the run goes on."""
        self._bound().warning(event, **details)

    def _bound(self) -> Any:
        if self._logger is None:
            import structlog

            if self._plain:
                processors: list[Any] = [
                    structlog.processors.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.dev.ConsoleRenderer(colors=False),
                ]
                logger = structlog.wrap_logger(structlog.PrintLogger(), processors=processors)
            else:
                logger = structlog.get_logger()
            self._logger = logger.bind(node=self._node)
        return self._logger
