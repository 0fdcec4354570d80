"""Tasks on this machine: the same scripts as in the pods, run by kfp's own runner.

The runner takes Python functions only. It runs a copy of each function's source text, so a function imports what it
needs itself and uses no name of this module.
"""

# kfp is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found", allow-untyped-decorators

from kfp import dsl

from deploy.pipeline_kfp.definition import END, OUTCOMES, RUN, Input, Tasks, step_command
from deploy.pipeline_kfp.scripts import FIND_COMMIT, IN_CHECKOUT, WITH_STATUS


@dsl.component(base_image="python:3.11")
def run_find_commit(script: str, url: str, branch: str) -> str:
    """Run FIND_COMMIT; return the commit."""
    import pathlib
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "commit")
        code = subprocess.run(["sh", "-c", script, "fetch_git_revision", url, branch, str(file)]).returncode
        if code:
            sys.exit(code)
        return file.read_text()


@dsl.component(base_image="python:3.11")
def run_step(script: str, url: str, sha: str, run: str, options: str, command: list[str]) -> None:
    """Run IN_CHECKOUT for a step without an outcome."""
    import subprocess
    import sys

    arguments = [url, sha, run, options, "", "", ""]
    code = subprocess.run(["sh", "-c", script, command[-1], *arguments, *command]).returncode
    if code:
        sys.exit(code)


# The runner's conditions read a function's return value, not a file.
@dsl.component(base_image="python:3.11")
def run_deciding_step(
    script: str, url: str, sha: str, run: str, options: str, command: list[str], name: str, default: str
) -> str:
    """Run IN_CHECKOUT for a step with an outcome; return the outcome."""
    import pathlib
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        arguments = [url, sha, run, options, name, default, f"{folder}/outcome"]
        code = subprocess.run(["sh", "-c", script, command[-1], *arguments, *command]).returncode
        if code:
            sys.exit(code)
        return pathlib.Path(folder, "outcome").read_text()


@dsl.component(base_image="python:3.11")
def run_finish(
    script: str,
    url: str,
    branch: str,
    run: str,
    with_status: str,
    command: list[str],
    status: dsl.PipelineTaskFinalStatus,
) -> None:
    """Run WITH_STATUS in IN_CHECKOUT."""
    import subprocess
    import sys

    arguments = [url, branch, run, "", "", "", "", "sh", "-c", with_status, command[-1], status.state]
    code = subprocess.run(["sh", "-c", script, command[-1], *arguments, *command]).returncode
    if code:
        sys.exit(code)


def on_this_machine(url: str, branch: str) -> Tasks:
    """Return the tasks as processes on this machine, for a repository's branch."""

    def find_commit() -> dsl.PipelineTask:
        return run_find_commit(script=FIND_COMMIT, url=url, branch=branch)

    def step(name: str, commit: Input, options: Input) -> dsl.PipelineTask:
        arguments = {
            "script": IN_CHECKOUT, "url": url, "sha": commit, "run": RUN, "options": options,
            "command": step_command(name),
        }  # fmt: skip
        if name not in OUTCOMES:
            return run_step(**arguments)
        outcome, default = OUTCOMES[name]
        return run_deciding_step(**arguments, name=outcome, default=default)

    def finish() -> dsl.PipelineTask:
        arguments = {"script": IN_CHECKOUT, "with_status": WITH_STATUS, "command": step_command(END)}
        return run_finish(**arguments, url=url, branch=branch, run=RUN)

    return Tasks(find_commit, step, finish)
