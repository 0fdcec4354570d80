"""Short texts about a version, for the pages of MLflow's registry."""

import collections
import hashlib
import json

from pipeline.records import Encoding, Scores
from pipeline.run_identity import git_commit
from pipeline.training_db import FinishedRun


def encoding_summary(encoding: Encoding) -> str:
    """Return a table's label, its columns by kind, and a hash by which equal encodings are recognized.

    The names of the columns are in the schema of the data set.
    """
    counts = collections.Counter(column["kind"] for column in encoding["columns"])
    kinds = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items()]
    digest = hashlib.sha256(json.dumps(encoding, sort_keys=True).encode()).hexdigest()
    return f"{encoding['label']} from {', '.join(kinds)}; hash {digest[:12]}"


def accuracy_summary(scores: Scores) -> str:
    """Return the accuracy and the number of held-out rows in words."""
    return f"accuracy {scores['accuracy']:.4f} on {scores['rows']} held-out rows"


def version_tags(candidate: FinishedRun) -> dict[str, str]:
    """Return the tags of the candidate's version; for a table, one of them summarizes the encoding."""
    tags = {"run_hash": candidate.run_hash, "data_hash": candidate.data.data_hash, "git_commit": git_commit()}
    encoding = candidate.data.encoding
    return tags | ({"encoding": encoding_summary(encoding)} if encoding else {})


def version_description(candidate: FinishedRun, scores: Scores) -> str:
    """Return one sentence about the candidate's version: accuracy, data and commit."""
    commit = candidate.git_commit
    code = "uncommitted code" if commit == "uncommitted" else f"the code of commit {commit[:12]}"
    accuracy = accuracy_summary(scores).capitalize()
    return f"{accuracy}; trained on data {candidate.data.data_hash[:12]} with {code}."
