"""The error tree. Every message says what was found, what was expected, and what to do.

    OptixError
    ├── ConfigurationError      a setting, a topology file or an argument is wrong      exit 2
    │   ├── MissingExtra        a package is needed that is not installed               exit 2
    │   └── Unsuitable          an agent does not fit an environment                    exit 2
    ├── EnvironmentFailure      the user's environment raised                           exit 3
    ├── LearningFailure         NaN or infinity in a loss or a weight                   exit 3
    ├── NodeFailure             a node died or went silent                              exit 3
    ├── CheckpointError         a snapshot is damaged, foreign or missing               exit 4
    └── BusError                the transport
        ├── CodecError          bytes that are no event
        ├── JournalError        the journal cannot be written or read
        └── BlobError           an array file is missing, damaged or over its budget
            └── BlobMissing     it is not there: retired, or not made again yet

Exit codes are those of the command line; 1 stays for what nobody foresaw.
"""

from __future__ import annotations


class OptixError(Exception):
    """Base of everything the project raises on purpose."""

    exit_code = 1


class ConfigurationError(OptixError):
    """A setting is wrong. The message holds the place, what was found and what fits."""

    exit_code = 2


class MissingExtra(ConfigurationError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, asked_by: str = "") -> None:
        asked = f" ({asked_by})" if asked_by else ""
        super().__init__(f"{package} is needed{asked} but not installed: pip install 'optix-bus[{extra}]'")


class Unsuitable(ConfigurationError):
    """An agent does not fit the observation or action space it was given."""


class EnvironmentFailure(OptixError):
    """The environment raised. Nothing collected in that window is used."""

    exit_code = 3


class LearningFailure(OptixError):
    """Learning produced numbers that are not finite. Training stops; nothing is saved from it."""

    exit_code = 3


class NodeFailure(OptixError):
    """A node died, hung or broke its contract."""

    exit_code = 3


class CheckpointError(OptixError):
    """A snapshot or its directory cannot be used as asked."""

    exit_code = 4


class BusError(OptixError):
    """Base of transport errors."""


class CodecError(BusError):
    """Bytes from outside that are no event of the vocabulary.

    ``reason`` is one word by which refusals are counted, e.g. ``unknown_type`` or ``too_large``.
    """

    def __init__(self, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class JournalError(BusError):
    """The journal cannot be written, or holds bytes that are no record."""


class BlobError(BusError):
    """A blob is missing, damaged, or does not fit its budget."""


class BlobMissing(BlobError):
    """A blob is not there: it was retired, or whoever makes it has not made it again yet."""
