"""The commands to run after the demo, and the address of MLflow's page."""

import http.client
import json
import os
import urllib.parse

from local import serve
from local.mlflow_server import MlflowServer
from local.processes import answer
from local.state import State

# Without it, MLflow's pages show traces of language models.
TRAINING_VIEW = "workflowType=machine_learning"


def lines(state: State) -> list[str]:
    """Return the lines that end `make demo`."""
    served = "the API and the page" if serve.PAGE.exists() else "the API"
    return [
        "next:",
        f"  make serve     serve {served} on this machine",
        "  ./run --help   list the steps, to run them one by one",
        "  make down      stop the servers and remove their data",
        f"MLflow: {tracking_page(state)}",
    ]


def tracking_page(state: State) -> str:
    """Return the address of the newest experiment's runs, or the tracking server's own where it is not known."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    return chosen or experiment_page(state) or MlflowServer("mlflow", state, None).address


def experiment_page(state: State) -> str:
    """Return the address of the newest experiment's runs on the local server, an empty text where there are none."""
    server = MlflowServer("mlflow", state, None)
    experiment = newest_experiment(server.port)
    return f"{server.address}/#/experiments/{experiment}/runs?{TRAINING_VIEW}" if experiment else ""


def newest_experiment(port: int) -> str:
    """Return the id of the experiment that changed last, an empty text where the server names none."""
    query = urllib.parse.urlencode(
        {"max_results": 1, "order_by": "last_update_time DESC", "filter": "name != 'Default'"}
    )
    status, content = answer(port, f"/api/2.0/mlflow/experiments/search?{query}")
    if status != http.client.OK:
        return ""
    try:
        return str(json.loads(content)["experiments"][0]["experiment_id"])
    except (ValueError, TypeError, KeyError, IndexError):
        return ""
