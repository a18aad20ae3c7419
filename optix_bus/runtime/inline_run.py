"""A topology in this process: the same nodes and the same events as in processes, without sockets."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.record import Record, encode_record
from optix_bus.errors import JournalError, OptixError
from optix_bus.messages import VOCABULARY, RunStarted
from optix_bus.runtime.cuts import CutFolder
from optix_bus.runtime.fingerprint import fingerprint
from optix_bus.runtime.fold import Envelope
from optix_bus.runtime.inline import InlineRunner, Listener
from optix_bus.runtime.inline_blobs import InlineBlobs
from optix_bus.runtime.names import SUPERVISOR
from optix_bus.runtime.numerics import one_thread
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.progress import Progress, View
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory, RunRecord, creation_time
from optix_bus.runtime.site import build_nodes
from optix_bus.runtime.supervisor import Outcome
from optix_bus.runtime.topology import Topology


def run_inline(
    topology: Topology,
    run: RunDirectory,
    view: View,
    listener: Listener | None = None,
    beginning: Callable[[InlineRunner], None] | None = None,
) -> Outcome:
    """Run a topology in this thread; ``listener`` is called with every event in order, and ``beginning`` once
    with the runner before the first, so that the run can be stopped.

    The run leaves the same record, journal and checkpoints as one in processes.
    """
    run_id = f"{topology.name}-{time.strftime('%Y%m%d-%H%M%S')}-inline"
    plan = make_plan(topology, run_id=run_id, run_directory=run.root.resolve())
    run.topology.write_text(topology.dump(), encoding="utf-8")
    plan.write(run.root / "plan.json")
    progress = Progress()
    journal = _Journal(run, run_id) if sys.platform != "win32" else None
    record = RunRecord(
        run_id=run_id,
        name=plan.name,
        state="running",
        supervisor=ProcessRecord(SUPERVISOR, os.getpid(), creation_time(os.getpid()), "ready"),
        seed=plan.seed,
        sockets="",
        shared_memory="",
        topology=str(topology.path),
        started=time.time(),
    )
    run.write(record)
    outcome = Outcome(1, "ended by an error that nobody foresaw", None)

    def listen(envelope: Envelope) -> None:
        if journal is not None:
            journal.append(envelope)
        if listener is not None:
            listener(envelope)
        progress.fold(envelope.event)
        view.event(envelope.event, progress)
        view.tick(progress, {})

    with one_thread():
        try:
            nodes = build_nodes(plan)
            stores = InlineBlobs(run, plan)
            runner = InlineRunner(
                nodes,
                seed=plan.seed,
                stores=lambda _name: stores,
                listener=listen,
                cuts=CutFolder(run.root, sync=False),
                persist=stores.persist,
                variants=lambda number: build_nodes(
                    msgspec.structs.replace(plan, nodes=plan.of_variant(number))
                ),
                started=RunStarted(
                    run_id=run_id,
                    seed=plan.seed,
                    topology_digest=plan.digest,
                    nodes=tuple(nodes),
                    fingerprint=fingerprint(),
                ),
            )
            if beginning is not None:
                beginning(runner)
            outcome = Outcome.of(runner.run())
        except KeyboardInterrupt:
            outcome = Outcome(130, "interrupted twice: ended without restoring the best policy", None)
            raise
        except OptixError as error:
            outcome = Outcome(error.exit_code, str(error), None)
        finally:
            if journal is not None:
                journal.close()
            record.state = "finished" if outcome.exit_code == 0 else "failed"
            record.exit_code, record.reason = outcome.exit_code, outcome.reason
            run.write(record)
    return outcome


class _Journal:
    """Writes what the hub of a run in processes would write.

    Windows has not the file calls that make a journal safe; an inline run leaves none there.
    """

    def __init__(self, run: RunDirectory, run_id: str) -> None:
        from optix_bus.bus.journal_writer import JournalWriter
        from optix_bus.bus.ledger import Ledger

        self._writer = JournalWriter(run.journal, Ledger(), run=run_id)
        self._codec = Codec(VOCABULARY)

    def append(self, envelope: Envelope) -> None:
        """One event, before any node sees it."""
        name, body = self._codec.encode(envelope.event)
        stamp = envelope.stamp_ns
        record = Record(
            envelope.sequence, stamp, envelope.node, 1, envelope.cause, envelope.index, name, body
        )
        entry = self._writer.encode(name, envelope.sequence, stamp, encode_record(record))
        if self._writer.append([entry], [name], [stamp]) != 1:
            raise JournalError(f"the journal cannot be written: {self._writer.failure}")

    def close(self) -> None:
        """Close the file in order."""
        self._writer.close()
