"""Scheduling of an experiment: the next visit of each candidate, and the record of each epoch."""

import collections
import concurrent.futures
import contextlib
import time

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from pipeline.databases import first_line
from pipeline.errors import StepError
from pipeline.tracking import child_run, end_child_run
from pipeline.training import checkpoints, hopping
from pipeline.training import run as training_run
from pipeline.training.candidates import Candidate, Division, EpochProgress, merged_scores
from pipeline.training.hopping import Visit
from pipeline.training.run import Training
from pipeline.training.session_pool import SessionPool, VisitFuture


class Scheduler:
    """Trains the candidates of an experiment in the sessions of a pool.

    `connection` stores epochs and results. `kind` names a candidate in messages and in MLflow, where its run lies below
    the run `parent`.
    """

    def __init__(self, connection: Connection, kind: str, parent: str, division: Division, pool: SessionPool) -> None:
        self.connection = connection
        self.kind = kind
        self.parent = parent
        self.division = division
        self.pool = pool
        self.waiting: list[EpochProgress] = []
        self.running: dict[VisitFuture, EpochProgress] = {}

    def train(self, candidates: list[Candidate]) -> None:
        """Train every candidate to its end; as many at a time as there are sessions."""
        pending = collections.deque(candidates)
        try:
            while pending or self.waiting or self.running:
                while pending and len(self.waiting) + len(self.running) < self.division.sessions:
                    self._admit(pending.popleft())
                self._start_visits()
                if self.running:
                    self._finish_visits()
        except BaseException:
            for progress in [*self.waiting, *self.running.values()]:
                with contextlib.suppress(StepError):
                    end_child_run(progress.mlflow_run, "FAILED")
            raise

    def _admit(self, candidate: Candidate) -> None:
        """Start or resume a candidate, unless it has finished before."""
        training = candidate.training
        candidate.epoch_rows, known_run = training_run.open_run(self.connection, training)
        mlflow_run = child_run(self.parent, self.kind, candidate.number, training.run_hash)
        try:
            training_run.log_parameters(training, mlflow_run)
            checkpoints.log_missing_epochs(mlflow_run, candidate.epoch_rows)
            if known_run is None:
                self._print(candidate, "was trained before")
                end_child_run(mlflow_run, "FINISHED")
            else:
                self._resume(candidate, mlflow_run)
        except BaseException:
            with contextlib.suppress(StepError):
                end_child_run(mlflow_run, "FAILED")
            raise

    def _resume(self, candidate: Candidate, mlflow_run: str) -> None:
        """Put a candidate in line for its first missing epoch."""
        training = candidate.training
        training_run.mark_running(self.connection, training, mlflow_run)
        if candidate.epoch_rows:
            self._print(candidate, f"resuming after epoch {len(candidate.epoch_rows)}")
        progress = EpochProgress(candidate, mlflow_run, self._visits(training))
        if candidate.is_complete:
            self._finish(progress)
            return
        progress.start_epoch(checkpoints.last_state(self.connection, training, len(candidate.epoch_rows)))
        self.waiting.append(progress)

    def _visits(self, training: Training) -> list[Visit]:
        """Return the visits of each epoch of a training."""
        count = self.division.sessions
        if self.division.partitions:
            return hopping.epoch_visits(hopping.first_session(training.run_hash, count), count)
        taken = {progress.visit.session for progress in [*self.waiting, *self.running.values()]}
        session = min(set(range(count)) - taken)
        return [Visit("fit", session), Visit("evaluate", session)]

    def _start_visits(self) -> None:
        """Start every next visit whose session is free."""
        free = set(range(self.division.sessions)) - {progress.visit.session for progress in self.running.values()}
        waiting = [(number, progress.visit.session) for number, progress in enumerate(self.waiting)]
        chosen = [self.waiting[number] for number, _ in hopping.next_visits(waiting, free)]
        for progress in chosen:
            self.waiting.remove(progress)
            self.running[self.pool.start_visit(progress)] = progress

    def _finish_visits(self) -> None:
        """Wait for visits to end, and store the epochs that are complete."""
        finished, _ = concurrent.futures.wait(self.running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in finished:
            progress = self.running[future]
            try:
                progress.finish_visit(future.result())
            except (psycopg2.errors.ExternalRoutineException, psycopg2.errors.InvalidTextRepresentation) as error:
                # The function itself refuses, as when the loss is not a number, which the JSON of evaluate cannot
                # hold: that is this candidate's result.
                refused = isinstance(error, psycopg2.errors.ExternalRoutineException)
                reason = first_line(error) if refused else "the validation loss is no number: lower learning_rate"
                self._fail(progress, reason)
                del self.running[future]
                continue
            # It counts as running until its epoch is stored: an error meanwhile ends its MLflow run too.
            has_next = not progress.is_complete or self._store_epoch(progress)
            del self.running[future]
            if has_next:
                self.waiting.append(progress)

    def _store_epoch(self, progress: EpochProgress) -> bool:
        """Write an epoch's checkpoint, and return whether another epoch follows."""
        candidate, training = progress.candidate, progress.candidate.training
        fitted = progress.merged_fitted(self.division)
        row = checkpoints.epoch_row(len(candidate.epoch_rows) + 1, fitted, merged_scores(progress.scores))
        with self.connection:
            seconds = time.monotonic() - progress.started
            checkpoints.write_checkpoint(self.connection, training, row, fitted, seconds, candidate.epoch_rows)
        candidate.epoch_rows.append(row)
        checkpoints.log_epoch(progress.mlflow_run, row)
        self._print(candidate, checkpoints.epoch_line(row, training.parameters["epochs"]))
        if candidate.is_complete:
            self._finish(progress)
            return False
        progress.start_epoch(progress.state)
        return True

    def _finish(self, progress: EpochProgress) -> None:
        candidate = progress.candidate
        training_run.mark_finished(self.connection, candidate.training, candidate.best["epoch"])
        end_child_run(progress.mlflow_run, "FINISHED")

    def _fail(self, progress: EpochProgress, reason: str) -> None:
        candidate = progress.candidate
        candidate.error = reason
        with self.connection:
            training_run.mark_failed(self.connection, [candidate.training.run_hash], reason)
        end_child_run(progress.mlflow_run, "FAILED")
        self._print(candidate, f"failed: {reason}")

    def _print(self, candidate: Candidate, message: str) -> None:
        print(f"{self.kind} {candidate.number}: {message}", flush=True)
