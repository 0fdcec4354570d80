"""A server in Kubeflow's place."""

import http.server
import itertools
import json
import threading

from .pipelines import Json


class Kubeflow:
    """The part of Kubeflow Pipelines' REST API that kfp's client calls; it records the requests."""

    def __init__(self) -> None:
        self.jobs: dict[str, Json] = {}
        self.numbers = map(str, itertools.count())
        self.runs: list[Json] = []
        self.namespaces: set[str] = set()
        self.refusing = False

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        """Return status and object."""
        content = json.loads(body or b"{}")
        kind, _, name = path.partition("?")[0].removeprefix("/apis/v2beta1/").partition("/")
        if self.refusing and kind != "healthz":
            return 403, {"error": "no"}
        return getattr(self, f"{method.lower()}_{kind}")(name, content)

    def get_healthz(self, *_: object) -> tuple[int, Json]:
        """Report health."""
        return 200, {"multi_user": True}

    def get_experiments(self, *_: object) -> tuple[int, Json]:
        """Return no experiment."""
        return 200, {"experiments": []}

    def post_experiments(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create an experiment."""
        self.namespaces |= {content["namespace"]} if content.get("namespace") else set()
        return 200, {"experiment_id": "e", **content}

    def get_recurringruns(self, *_: object) -> tuple[int, Json]:
        """Return the recurring runs."""
        return 200, {"recurringRuns": list(self.jobs.values())}

    def post_recurringruns(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create a recurring run."""
        number = next(self.numbers)
        self.jobs[number] = {"recurring_run_id": number, **content}
        return 200, self.jobs[number]

    def delete_recurringruns(self, name: str, _given: Json) -> tuple[int, Json]:
        """Delete a recurring run."""
        del self.jobs[name]
        return 200, {}

    def post_runs(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create a run."""
        self.runs.append(content)
        return 200, {"run_id": "r", **content}

    def __enter__(self) -> "Kubeflow":
        kubeflow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = kubeflow.answer(self.command, self.path, body)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that the library calls

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
