"""Short texts about a version, for the pages of MLflow's registry."""

import collections
import hashlib
import json

from pipeline.records import Encoding


def encoding_summary(encoding: Encoding) -> str:
    """Return a table's label, its columns by kind, and a hash by which equal encodings are recognized.

    The names of the columns are in the schema of the data set.
    """
    counts = collections.Counter(column["kind"] for column in encoding["columns"])
    kinds = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items()]
    digest = hashlib.sha256(json.dumps(encoding, sort_keys=True).encode()).hexdigest()
    return f"{encoding['label']} from {', '.join(kinds)}; hash {digest[:12]}"
