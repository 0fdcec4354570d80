"""Step learning_curve: the same training on growing shares of the training split: would more data help?"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import pyplot

from pipeline import doctor, training_db
from pipeline.databases import binding, query, session
from pipeline.errors import StepError
from pipeline.registry import report
from pipeline.tracking import load_mlflow
from pipeline.training import experiments
from pipeline.training import run as training_run
from pipeline.training.candidates import Candidate, Division

# A difference of accuracies counts when it is larger than so many standard errors.
STANDARD_ERRORS = 2


class Point(NamedTuple):
    """A training on the rows of a share: accuracy of its best epoch on these rows, and on the validation split."""

    share: float
    rows: int
    train_accuracy: float
    val_accuracy: float


class Share(NamedTuple):
    """A share that was asked for: the blocks with a batch_id below a limit (None: all), and the rows in them."""

    share: float
    batch_id_below: int | None
    rows: int


class Verdict(NamedTuple):
    """What the curve says, in a word for a tag and in a sentence for a person."""

    decision: str
    sentence: str


def run(
    shares: str, epochs: int, batch_size: int, learning_rate: float, seed: int, patience: int, run: int, sessions: int
) -> str:
    """Train once a share with the parameters of train_model; no such run becomes the candidate. Raises StepError."""
    experiments.require_sessions(sessions)
    wanted = parsed_shares(shares)
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
    whole = training_run.current_training(parameters)
    connection = session("trainer")
    with connection:
        found = cut(training_db.training_blocks(connection, whole.data.dataset), wanted)
    # The whole split is what train_model trains, too: neither trains it again.
    trainings = [
        whole if share.batch_id_below is None
        else whole._replace(parameters={**parameters, "batch_id_below": share.batch_id_below})
        for share in found
    ]  # fmt: skip
    # On Greenplum one session trains on all segments, as train_model does.
    session_count = 1 if binding("trainer").is_greenplum else min(sessions, len(trainings))
    return experiments.run(
        "learning_curve",
        "share",
        trainings,
        Division(session_count),
        lambda connection, candidates: _conclude(connection, candidates, found),
    )


def parsed_shares(text: str) -> list[float]:
    """Return the shares that are written with commas between them, in order. Raises StepError."""
    try:
        shares = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise StepError(f"shares is {text!r}; it must be numbers with commas between them, as 0.25,0.5,1") from error
    if not all(0 < share <= 1 for share in shares) or len(shares) < 2 or shares[-1] != 1:
        raise StepError(f"shares is {text!r}; allowed are two or more different numbers above 0, the last of them 1")
    return shares


def cut(blocks: Sequence[tuple[int, int]], shares: Sequence[float]) -> list[Share]:
    """Return for each share the fewest blocks, in the order of batch_id, that hold as many rows; each cut once, for the
    smallest share that it holds.

    `blocks` are (batch_id, rows) in that order. Raises StepError when there are not blocks enough for two cuts.
    """
    total = sum(rows for _, rows in blocks)
    found: dict[int, Share] = {}
    for share in shares:
        rows = count = 0
        while rows < share * total - 1e-6:
            rows += blocks[count][1]
            count += 1
        found.setdefault(count, Share(share, blocks[count][0] if count < len(blocks) else None, rows))
    if len(found) < 2:
        raise StepError(
            f"the training split is packed in {len(blocks)} block{'s' if len(blocks) != 1 else ''}, so the shares are "
            "all of it: run upload_dataset with smaller rows_per_block"
        )
    return list(found.values())


def verdict(points: Sequence[Point], validation_rows: int) -> Verdict:
    """Say what would help, from points in the order of their rows, by this rule.

    A difference counts when it is above two standard errors of the validation accuracy on all rows,
    sqrt(accuracy · (1 - accuracy) / validation rows), and more than one of these rows.
    More data helps when the accuracy on all rows is above that on the largest share of at most 0.5 (else the smallest)
    by a difference that counts; its last block may reach beyond the half. Else a larger model helps when the model does
    not even learn the rows that it sees: its training accuracy is below 1, and not above its validation accuracy, by a
    difference that counts. Else neither does.
    """
    last = points[-1]
    half = max((point for point in points[:-1] if point.share <= 0.5), default=points[0])
    error = math.sqrt(last.val_accuracy * (1 - last.val_accuracy) / validation_rows)
    counts = max(STANDARD_ERRORS * error, 1.5 / validation_rows)
    gain, gap = last.val_accuracy - half.val_accuracy, last.train_accuracy - last.val_accuracy
    told = (
        f"from {half.rows:,} to {last.rows:,} rows the validation accuracy goes from {half.val_accuracy:.4f} to "
        f"{last.val_accuracy:.4f} (a difference above {counts:.4f} counts), on the rows trained on it is "
        f"{last.train_accuracy:.4f}"
    )
    if gain > counts:
        return Verdict("more-data", f"more data helps: {told}")
    if 1 - last.train_accuracy > counts and gap <= counts:
        return Verdict("larger-model", f"a larger model may help, more data does not: {told}")
    return Verdict("neither", f"neither more data nor a larger model helps: {told}")


def _conclude(connection: Any, candidates: list[Candidate], shares: list[Share]) -> str:
    failed = next((each for each in candidates if each.error), None)
    if failed:
        raise StepError(f"the training on {shares[failed.number - 1].rows:,} rows failed: {failed.error}")
    points = [_point(connection, each, share) for each, share in zip(candidates, shares)]
    validation_rows = candidates[0].training.data.split_rows["validation"]
    found = verdict(points, validation_rows)
    mlflow = load_mlflow()
    for point in points:
        scores = {"train_accuracy": point.train_accuracy, "val_accuracy": point.val_accuracy}
        mlflow.log_metrics(scores, step=point.rows)
    mlflow.log_figure(report.learning_curve(points, found.sentence), "learning_curve.png")
    pyplot.close("all")
    mlflow.set_tags({"decision": found.decision, "sentence": found.sentence})
    for point in points:
        print(f"{point.rows:>9,} rows  accuracy {point.train_accuracy:.4f}  val_accuracy {point.val_accuracy:.4f}")
    return found.sentence


def _point(connection: Any, candidate: Candidate, share: Share) -> Point:
    """Evaluate the best epoch on the rows that it was trained on; what `fit` tells is from while it still learned."""
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
