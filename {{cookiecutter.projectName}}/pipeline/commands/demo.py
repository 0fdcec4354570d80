"""Show the served version and one prediction.

The app's role asks the inference database for accuracy, version, and the label of a row that the model has never seen.
"""

from pipeline.data import source
from pipeline.databases import query, session
from pipeline.errors import StepError
from pipeline.settings import settings


def main() -> None:
    """Print three lines: accuracy on the holdout; model, version, stage; a row's predicted and true label.

    Raises StepError when no version holds the alias.
    """
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
        unseen = source.unseen_row()
        answer = query(
            connection,
            "SELECT {schema}.run_inference_task(%s" + f"::{unseen.sql_type}, %s, %s)",
            (unseen.value, settings().model, stage),
        )[0][0]
    version, metrics = served[0]
    print(f"accuracy {metrics['accuracy_score']:.4f} on {metrics['rows']} held-out rows")
    print(f"model {settings().model}, version {version}, stage {stage}")
    print(f"{unseen.description} it had never seen: predicted {answer['label']}, true {unseen.label}")
