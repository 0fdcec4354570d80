"""Find out whether more data would help.

The same training runs on growing shares of the training split.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import pyplot

from pipeline import doctor, training_db
from pipeline.databases import Connection, binding, query, session
from pipeline.errors import StepError
from pipeline.registry import report
from pipeline.tracking import load_mlflow
from pipeline.training import experiments
from pipeline.training import run as training_run
from pipeline.training.candidates import Candidate, Division

# A difference of accuracies counts when it is above this number of standard errors.
STANDARD_ERRORS = 2


class Point(NamedTuple):
    """The training on a share: its rows, and the best epoch's accuracy on these rows and on the validation split."""

    share: float
    rows: int
    train_accuracy: float
    val_accuracy: float


class Share(NamedTuple):
    """A share of the training split: the blocks with a batch_id below a limit (None: all), and the rows in them."""

    share: float
    batch_id_below: int | None
    rows: int


class Verdict(NamedTuple):
    """The decision: more-data, larger-model or neither, and a sentence with the reason."""

    decision: str
    sentence: str


def run(
    shares: str, epochs: int, batch_size: int, learning_rate: float, seed: int, patience: int, run: int, sessions: int
) -> str:
    """Train once per share, with the parameters of train_model. None of the runs becomes the candidate.

    Args:
        shares: shares of the training split with commas between them; the last is 1
        epochs: most epochs per training
        batch_size: rows per step of the optimizer
        learning_rate: learning rate of the optimizer
        seed: seed of starting weights and of everything random in training
        patience: stop after this many epochs without a lower validation loss
        run: another number trains afresh
        sessions: trainings at the same time, each in a session of the database (on Greenplum one)

    Raises:
        StepError: a value is not allowed, or a training failed.
    """
    experiments.require_sessions(sessions)
    ascending = parsed_shares(shares)
    parameters = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "patience": patience,
        "run": run,
    }
    training_run.check_parameters(parameters)
    doctor.require(doctor.trainer, doctor.mlflow_server)
    return _train(ascending, parameters, sessions)


def _train(shares: list[float], parameters: dict[str, Any], sessions: int) -> str:
    """Train once per share, in up to `sessions` sessions, and return the sentence of the verdict."""
    whole = training_run.current_training(parameters)
    connection = session("trainer")
    with connection:
        parts = cut(training_db.training_blocks(connection, whole.data.dataset), shares)
    # The whole split is the training of train_model: whichever step comes second does not repeat it.
    trainings = [
        whole if share.batch_id_below is None
        else whole._replace(parameters={**parameters, "batch_id_below": share.batch_id_below})
        for share in parts
    ]  # fmt: skip
    # On Greenplum one session trains on all segments, as train_model does.
    session_count = 1 if binding("trainer").is_greenplum else min(sessions, len(trainings))
    return experiments.run(
        "learning_curve",
        "share",
        trainings,
        Division(session_count),
        lambda connection, candidates: _conclude(connection, candidates, parts),
    )


def parsed_shares(text: str) -> list[float]:
    """Return the shares between the commas in ascending order. Raises StepError."""
    try:
        shares = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise StepError(f"shares is {text!r}; it must be numbers with commas between them, as 0.25,0.5,1") from error
    if not all(0 < share <= 1 for share in shares) or len(shares) < 2 or shares[-1] != 1:
        raise StepError(f"shares is {text!r}; allowed are two or more different numbers above 0, the last of them 1")
    return shares


def cut(blocks: Sequence[tuple[int, int]], shares: Sequence[float]) -> list[Share]:
    """Return the fewest blocks per share, in the order of batch_id, that hold the share's rows.

    `blocks` are (batch_id, rows) in that order. Shares that need the same blocks are one, the smallest of them.
    Raises StepError when the blocks do not make two different shares.
    """
    total = sum(rows for _, rows in blocks)
    parts: dict[int, Share] = {}
    for share in shares:
        rows = count = 0
        while rows < share * total - 1e-6:
            rows += blocks[count][1]
            count += 1
        parts.setdefault(count, Share(share, blocks[count][0] if count < len(blocks) else None, rows))
    if len(parts) < 2:
        raise StepError(
            f"the training split is packed in {len(blocks)} block{'s' if len(blocks) != 1 else ''}, so the shares are "
            f"all of it: run `./run upload_dataset --rows_per_block NUMBER` with a number below {blocks[0][1]}"
        )
    return list(parts.values())


def verdict(points: Sequence[Point], validation_rows: int) -> Verdict:
    """Decide what would help: more data, a larger model, or neither. `points` are in the order of their rows.

    1. A difference counts when it is above two standard errors of the validation accuracy on all rows,
       sqrt(accuracy · (1 - accuracy) / validation rows), and above one validation row.
    2. More data helps when the validation accuracy on all rows exceeds, by a difference that counts, the one on the
       largest share of at most 0.5 (without such a share, the smallest). Its last block may reach beyond the half.
    3. Otherwise a larger model helps when the model does not learn the rows that it sees: its training accuracy is
       below 1 by a difference that counts, and not above its validation accuracy by one.
    4. Otherwise neither helps.
    """
    last = points[-1]
    half = max((point for point in points[:-1] if point.share <= 0.5), default=points[0])
    error = math.sqrt(last.val_accuracy * (1 - last.val_accuracy) / validation_rows)
    counts = max(STANDARD_ERRORS * error, 1.5 / validation_rows)
    gain, gap = last.val_accuracy - half.val_accuracy, last.train_accuracy - last.val_accuracy
    reason = (
        f"from {half.rows:,} to {last.rows:,} rows the validation accuracy goes from {half.val_accuracy:.4f} to "
        f"{last.val_accuracy:.4f} (a difference above {counts:.4f} counts), on the rows trained on it is "
        f"{last.train_accuracy:.4f}"
    )
    if gain > counts:
        return Verdict("more-data", f"more data helps: {reason}")
    if 1 - last.train_accuracy > counts and gap <= counts:
        return Verdict("larger-model", f"a larger model may help, more data does not: {reason}")
    return Verdict("neither", f"neither more data nor a larger model helps: {reason}")


def _conclude(connection: Connection, candidates: list[Candidate], shares: list[Share]) -> str:
    """Evaluate, log and print the curve, and return its verdict. Raises StepError when a training failed."""
    failed = next((candidate for candidate in candidates if candidate.error), None)
    if failed:
        raise StepError(f"the training on {shares[failed.number - 1].rows:,} rows failed: {failed.error}")
    points = [_point(connection, candidate, share) for candidate, share in zip(candidates, shares)]
    validation_rows = candidates[0].training.data.split_rows["validation"]
    decision, sentence = verdict(points, validation_rows)
    mlflow = load_mlflow()
    for point in points:
        scores = {"train_accuracy": point.train_accuracy, "val_accuracy": point.val_accuracy}
        mlflow.log_metrics(scores, step=point.rows)
    mlflow.log_figure(report.learning_curve(points, sentence), "learning_curve.png")
    pyplot.close("all")
    mlflow.set_tags({"decision": decision, "sentence": sentence})
    for point in points:
        print(f"{point.rows:>9,} rows  accuracy {point.train_accuracy:.4f}  val_accuracy {point.val_accuracy:.4f}")
    return sentence


def _point(connection: Connection, candidate: Candidate, share: Share) -> Point:
    """Evaluate the best epoch on its training rows: the accuracy of `fit` is measured while the weights change."""
    training, best = candidate.training, candidate.best
    threads = training_db.threads_for(binding("trainer").is_greenplum)
    with connection:
        weights = query(
            connection,
            "SELECT weights FROM {schema}.training_epoch WHERE run_hash = %s AND epoch = %s",
            (training.run_hash, best["epoch"]),
        )[0][0]
        scores = training_db.evaluate(
            connection, training.data.dataset, "train", bytes(weights), training.config(0, threads), training.blocks
        )
    return Point(share.share, share.rows, scores["accuracy"], best["val_accuracy"])
