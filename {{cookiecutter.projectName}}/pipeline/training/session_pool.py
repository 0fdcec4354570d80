"""The sessions of an experiment: each has a thread that waits for the training database."""

import concurrent.futures
import contextlib
from collections.abc import Iterator
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection

from pipeline import training_db
from pipeline.databases import binding, connect
from pipeline.records import Scores
from pipeline.training.candidates import Division, EpochProgress
from pipeline.training_db import Fitted

SECONDS_BETWEEN_CANCELS = 0.5

# The result of a visit; None where the session has no row.
VisitResult = Fitted | Scores | None
VisitFuture = concurrent.futures.Future[VisitResult]


class SessionPool:
    """The sessions that train, opened on entry; on exit, running statements are cancelled."""

    def __init__(self, division: Division) -> None:
        self.division = division
        self.greenplum = binding("trainer").is_greenplum
        # Sessions side by side share the processors; a single session has them all.
        self.threads = 1 if self.greenplum or division.sessions > 1 else training_db.threads_for(self.greenplum)

    def __enter__(self) -> "SessionPool":
        self.running: set[VisitFuture] = set()
        with contextlib.ExitStack() as stack:
            self.connections = [stack.enter_context(_open(self.greenplum)) for _ in range(self.division.sessions)]
            self.executors = [
                stack.enter_context(concurrent.futures.ThreadPoolExecutor(1)) for _ in range(self.division.sessions)
            ]
            stack.callback(self._cancel)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _cancel(self) -> None:
        """Cancel running statements repeatedly: one that has not reached the server yet cannot be cancelled."""
        while any(not future.done() for future in self.running):
            for connection in self.connections:
                with contextlib.suppress(psycopg2.Error):
                    connection.cancel()
            concurrent.futures.wait(self.running, timeout=SECONDS_BETWEEN_CANCELS)

    def start_visit(self, progress: EpochProgress) -> VisitFuture:
        """Start the candidate's next visit and return the future of its result."""
        session = progress.visit.session
        config = progress.candidate.training.config(len(progress.candidate.epoch_rows) + 1, self.threads)
        future = self.executors[session].submit(self._visit, progress, self.connections[session], config)
        self.running = {other for other in self.running if not other.done()} | {future}
        return future

    def _visit(self, progress: EpochProgress, connection: Connection, config: str) -> VisitResult:
        training, blocks = progress.candidate.training, self.division.blocks(progress.visit.session)
        dataset, weight_count = training.data.dataset, training.architecture.weight_count
        with connection:
            if progress.visit.task == "evaluate":
                weights = progress.state[: 4 * weight_count]
                return training_db.evaluate_blocks(connection, dataset, "validation", weights, config, blocks)
            train_blocks = blocks if self.division.partitions else training.blocks
            if self.greenplum and not progress.candidate.epoch_rows:
                training_db.require_partial_aggregate(connection, dataset, config, train_blocks)
            return training_db.fit(connection, dataset, progress.state, config, weight_count, train_blocks)


@contextlib.contextmanager
def _open(greenplum: bool) -> Iterator[Connection]:
    """Open a session for training, and close it afterwards."""
    with contextlib.closing(connect("trainer")) as connection:
        with connection:
            training_db.prepare_session(connection, greenplum)
        yield connection
