"""What is known of a snapshot: one JSON file each, so that a torn one spoils nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optix_bus.errors import CheckpointError

FILE = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """A snapshot's own description.

    Attributes:
        snapshot_id: name of its folder.
        run: the run that wrote it.
        sequence: its number within the run; of the promoting event where there is one.
        parent: the best snapshot at that time; empty for the first.
        policy_version: version of the policy; -1 where unknown.
        episode_id: window it was evaluated in.
        timestamp: seconds since the epoch, for people.
        score: the record of exactly this policy.
        metrics: what lies behind the score.
        hyperparams: in force when it was learnt.
        weights: path of the weights relative to the snapshot's folder, as `load_weights` takes it.
        form: ``arrays`` (safetensors) or ``own`` (whatever the agent's `save_weights` wrote).
        files: SHA-256 of every file of the weights, by path relative to the snapshot's folder.
        sha256: of all of them together.
        format: of this file.
        versions: of what wrote it.
        regime: snapshots of a later one rank higher, whatever their scores; see `PolicyPromoted`.
        variant: of a variant of another policy: its number, parent snapshot, noise and seed; otherwise empty.
    """

    snapshot_id: str
    run: str
    sequence: int
    parent: str
    policy_version: int
    episode_id: int
    timestamp: float
    score: float
    metrics: dict[str, float]
    hyperparams: dict[str, Any]
    weights: str
    form: str
    files: dict[str, str]
    sha256: str
    format: int = FORMAT
    versions: dict[str, str] = field(default_factory=dict)
    regime: int = 0
    variant: dict[str, Any] = field(default_factory=dict)


def combined(files: dict[str, str]) -> str:
    """One SHA-256 for several files: of their paths and digests; a single file's own where there is one."""
    if len(files) == 1:
        return next(iter(files.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def write(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into its snapshot's folder.

    Raises:
        CheckpointError: a hyperparameter cannot be written as JSON.
    """
    body = _plain(asdict(manifest))
    try:
        text = json.dumps(body, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the hyperparameters of {manifest.snapshot_id} hold something that is no JSON value: {error}"
        ) from error
    document = {"manifest": body, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / FILE).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read(folder: Path) -> Manifest:
    """Read a snapshot's manifest.

    Raises:
        CheckpointError: it is missing, torn, altered, or of another format.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text())
        body = document["manifest"]
        text = json.dumps(body, indent=1, sort_keys=True, allow_nan=False)
        if hashlib.sha256(text.encode()).hexdigest() != document["sha256"]:
            raise ValueError("its checksum does not match")
        if body["format"] != FORMAT:
            raise ValueError(f"found format {body['format']}, expected {FORMAT}")
        body["metrics"] = {k: math.nan if v is None else v for k, v in body["metrics"].items()}
        body["score"] = math.nan if body["score"] is None else body["score"]
        return Manifest(**body)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or missing: {error}") from error


def _plain(value: Any) -> Any:
    """JSON values only: NumPy scalars become numbers, what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        value = item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
