"""List the labels that wait; accept or refuse some.

`collect_labels` copies accepted labels alone, unless project.yaml says `labels: automatic`; it never copies refused
ones.
"""

import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from pipeline import doctor
from pipeline.data import feedback, label_reviews, source
from pipeline.databases import Connection, query, require_relation, session
from pipeline.errors import StepError
from pipeline.settings import settings

LISTED = 20
COLUMN = 24
ALL = "all"
SELECTION = r"[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*"


class Label(NamedTuple):
    """A label that waits for review, with the model's prediction and its probability."""

    label_id: int
    subject: str
    predicted_label: str
    confidence: float
    label: str
    labelled_at: str


def run(accept: str, refuse: str, subject: str, inputs: str) -> str:
    """List the labels that wait for review; with `accept` or `refuse`, decide about some of them.

    Args:
        accept: numbers of labels, as in 3,7-12, or all that wait
        refuse: likewise
        subject: only labels that this subject gave; empty for all subjects
        inputs: a new folder for the listed inputs, one file per label; empty for none

    Raises:
        StepError: a selection is not written like that, or selects no label; or the folder cannot be created.
    """
    chosen = {"accepted": accept.strip(), "refused": refuse.strip()}
    for name, option in (("accept", accept), ("refuse", refuse)):
        if option.strip() not in ("", ALL) and not re.fullmatch(SELECTION, option.strip()):
            raise StepError(f"{name} is {option!r}; write numbers of labels like 3,7-12, or all")
    if all(chosen.values()):
        raise StepError("accept and refuse were both given; give one of them at a time")
    doctor.require(doctor.inference_database)
    inference = session("inference-deployer")
    with inference:
        require_relation(inference, "label_review", "deploy_inference_db")
        for verdict, selection in chosen.items():
            if selection:
                return _decide(inference, verdict, selection, subject)
        labels = _waiting(inference, subject)
        if inputs and labels:
            _write_inputs(inference, labels, pathlib.Path(inputs))
        return _listing(inference, labels, subject)


def _decide(inference: Connection, verdict: str, selection: str, subject: str) -> str:
    """Store the verdict about the selected labels. Raises StepError when there is none."""
    condition, values = _condition(selection)
    decided = label_reviews.decide(
        inference, verdict, f"(%s = '' OR subject = %s) AND {condition}", (subject, subject, *values)
    )
    if not decided:
        raise StepError(f"none of the selected labels is there to be {verdict}: `./run review_labels` lists them")
    return f"{decided} labels {verdict}; {label_reviews.waiting_labels(inference, settings().model)} wait"


def _condition(selection: str) -> tuple[str, list[int]]:
    """Return the SQL condition of a selection of labels, and its values.

    A range, or all, selects labels that wait. A single number selects a reviewed label, too.
    """
    if selection == ALL:
        return "verdict = 'waiting'", []
    parts, values = [], []
    for part in selection.split(","):
        first, _, last = part.partition("-")
        parts.append("label_id BETWEEN %s AND %s AND verdict = 'waiting'" if last else "label_id = %s")
        values += [int(number) for number in (first, last) if number]
    return f"({' OR '.join(parts)})", values


def _waiting(inference: Connection, subject: str) -> list[Label]:
    """Return the first labels that wait for review."""
    rows = query(
        inference,
        "SELECT label_id, subject, predicted_label, confidence, label, to_char(labelled_at, 'YYYY-MM-DD HH24:MI') "
        "FROM {schema}.label_status WHERE model = %s AND verdict = 'waiting' AND (%s = '' OR subject = %s) "
        "ORDER BY label_id LIMIT %s",
        (settings().model, subject, subject, LISTED),
    )
    return [Label(*row) for row in rows]


def _write_inputs(inference: Connection, labels: Sequence[Label], folder: pathlib.Path) -> None:
    """Write the stored input of each label to a new folder that only this user can read. Raises StepError."""
    rows = query(
        inference,
        "SELECT s.label_id, s.input, v.input_shape, v.input_dtype, v.training_statistics -> 'pixels' "
        "FROM {schema}.label_status AS s JOIN {schema}.model_version AS v USING (model, version) "
        "WHERE s.label_id = ANY(%s) AND s.input IS NOT NULL",
        ([label.label_id for label in labels],),
    )
    try:
        folder.mkdir(mode=0o700)
        for label_id, stored, shape, dtype, pixels in rows:
            suffix, content = source.input_file(bytes(stored), tuple(shape), dtype, pixels)
            (folder / f"{label_id}{suffix}").write_bytes(content)
    except OSError as error:
        raise StepError(
            f"inputs is {str(folder)!r}, and {error.strerror}: name a folder that does not exist"
        ) from error


def _listing(inference: Connection, labels: Sequence[Label], subject: str) -> str:
    """Return a table of labels that wait, and the subjects whose labels deserve a closer look."""
    if not labels:
        return "no label waits for review"
    lines = [_line(label) for label in labels]
    doubtful = feedback.doubtful_subjects_of(inference, settings().model)
    lines += [
        f"doubtful: {feedback.printable(each.subject)} disagrees with the model in "
        f"{each.disagreements} of {each.labels} labels"
        for each in doubtful
    ]
    header = f"{'label':>8}  {'time':16}  {'subject':{COLUMN}}  {'true class':{COLUMN}}  prediction"
    first, last = labels[0].label_id, labels[-1].label_id
    waiting = label_reviews.waiting_labels(inference, settings().model)
    of_subject = f" --subject {shlex.quote(subject)}" if subject else ""
    return "\n".join([
        f"{waiting} labels wait for review", header, *lines,
        f"accept these: `./run review_labels --accept {first}-{last}{of_subject}`",
    ])  # fmt: skip


def _line(label: Label) -> str:
    """Return the columns of a label."""
    subject, true_class, prediction = map(feedback.printable, (label.subject, label.label, label.predicted_label))
    return (
        f"{label.label_id:>8}  {label.labelled_at}  {subject:{COLUMN}}  "
        f"{true_class:{COLUMN}}  {prediction} ({label.confidence:.0%})"
    )
