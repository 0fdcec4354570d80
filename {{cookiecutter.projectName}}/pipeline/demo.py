"""Shows what is served: accuracy, version, and one image that the model has never seen.

`python -m pipeline.demo` asks the inference database alone, as the app would.
"""

import sys

import numpy as np
import psycopg2

from pipeline.databases import first_line, query, session
from pipeline.errors import StepError
from pipeline.mini_batches import row_digests, split_rows
from pipeline.settings import settings
from pipeline.user_code import load_dataset


def main() -> None:
    """Print three lines: accuracy on the holdout; model, version, stage; an image's predicted and true label."""
    try:
        show()
    except StepError as error:
        sys.exit(f"error: {error}")
    except psycopg2.Error as error:
        sys.exit(f"error: the inference database refused: {first_line(error)}")


def show() -> None:
    """Print the three lines. Raises StepError when no version holds the alias."""
    stage = settings().promotion_stage
    connection = session("inference-app")
    with connection:
        served = query(
            connection,
            "SELECT version, metrics FROM {schema}.model_info WHERE model = %s AND alias = %s",
            (settings().model, stage),
        )
        if not served:
            raise StepError(f"no version of {settings().model} holds {stage}: run `make pipeline`")
        image, true_label = unseen_row()
        answer = query(
            connection,
            "SELECT {schema}.run_inference_task(%s, %s, %s)",
            (image.tobytes(), settings().model, stage),
        )[0][0]
    version, metrics = served[0]
    print(f"accuracy {metrics['accuracy_score']:.4f} on {metrics['rows']} held-out rows")
    print(f"model {settings().model}, version {version}, stage {stage}")
    print(f"an image it had never seen: predicted {answer['label']}, true {true_label}")


def unseen_row() -> tuple[np.ndarray, str]:
    """Return the first row of the holdout and its class: the row's own hash says that it was not trained on."""
    data = load_dataset()
    row = split_rows(row_digests(data.features))["holdout"][0]
    return data.features[row], data.classes[data.labels[row]]


if __name__ == "__main__":
    main()
