"""Compiles the pipelines for Kubeflow, submits and schedules them, and runs them on this machine.

Run it from the project's folder, in the environment `kubeflow`:

    /usr/bin/python3 -m local run --environment kubeflow --no-servers -- python -m deploy.pipeline_kfp compile

The steps, their order and their parameters come from MLproject, the values from deploy/values.yaml with the defaults in
deploy/config/schema.yaml.
"""

# kfp is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found"

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

import click
from kfp import Client, compiler, dsl
from kfp import local as kfp_local
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from deploy.pipeline_kfp.cluster import on_cluster
from deploy.pipeline_kfp.definition import build, full_name, require_pipeline
from deploy.pipeline_kfp.laptop import on_this_machine
from deploy.pipeline_kfp.values import ROOT, VALUES, Values, cron, read_values, seconds
from pipeline.errors import StepError
from pipeline.mlproject import steps
from pipeline.settings import settings


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of every command."""

    files: Sequence[str]
    host: str | None
    multi_user: bool

    def namespace(self, values: Values) -> str | None:
        """Return the profile's namespace; a single-user installation has its own."""
        return values["namespace"] if self.multi_user else None


@click.group(help=__doc__)
@click.option("--values", "files", multiple=True, default=[VALUES], show_default=True, help="Later files win.")
@click.option("--host", envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow's address; by default kfp looks for it.")
@click.option("--multi-user", is_flag=True, help="The values' namespace is a profile's.")
@click.pass_context
def group(context: click.Context, files: Sequence[str], host: str | None, multi_user: bool) -> None:
    """Store the options of every command."""
    context.obj = Options(files, host, multi_user)


@group.command("compile")
@click.argument("which", default="train")
@click.option("--output", required=True, help="The file to write.")
@click.pass_obj
def compile_command(options: Options, which: str, output: str) -> None:
    """Write a pipeline (train, step, monitor) as a file for Kubeflow's page."""
    compile_pipeline(which, read_values(options.files), output)
    click.echo(f"{output}: {full_name(which)}")


@group.command()
@click.argument("which", default="train")
@click.option("-P", "parameter", multiple=True, help="NAME=VALUE; the commit's MLproject has the defaults.")
@click.pass_obj
def submit(options: Options, which: str, parameter: Sequence[str]) -> None:
    """Run a pipeline once, on the branch's newest commit."""
    arguments = run_arguments(which, parameter)
    values = read_values(options.files)
    with connection(options) as client, compiled(which, values) as path:
        run = client.create_run_from_pipeline_package(
            path,
            arguments,
            experiment_name=settings().project_name,
            namespace=options.namespace(values),
            enable_caching=False,
        )
    click.echo(f"{full_name(which)}: run {run.run_id}")


@group.command()
@click.pass_obj
def schedule(options: Options) -> None:
    """Schedule `monitor` in place of its earlier schedule; remove the schedule if monitoring.enabled is false."""
    values = read_values(options.files)
    require_pipeline("monitor")
    enabled, clock, name = values["monitoring"]["enabled"], cron(values["monitoring"]), full_name("monitor")
    with connection(options) as client, compiled("monitor", values) as path:
        namespace = options.namespace(values)
        experiment = client.create_experiment(settings().project_name, namespace=namespace).experiment_id
        for scheduled in client.list_recurring_runs(page_size=100, experiment_id=experiment).recurring_runs or []:
            if scheduled.display_name == name:
                client.delete_recurring_run(scheduled.recurring_run_id)
        if enabled:
            client.create_recurring_run(
                experiment, name, cron_expression=clock, max_concurrency=1, no_catchup=True,
                pipeline_package_path=path, enable_caching=False,
            )  # fmt: skip
    click.echo(f"{name}: {clock if enabled else 'not scheduled'}")


@group.command("local")
@click.argument("which", default="train")
@click.option("-P", "parameter", multiple=True, help="NAME=VALUE; MLproject has the defaults.")
def local_command(which: str, parameter: Sequence[str]) -> None:
    """Run a pipeline on this machine, on the branch's newest commit, with kfp's own runner."""
    arguments = run_arguments(which, parameter)
    branch = _output("git", "branch", "--show-current")
    if not branch:
        raise StepError(f"{ROOT} is on no branch of a git repository: commit what is to run")
    # The steps' `python` is that of the pipeline's environment; kfp knows its own by its full path.
    environment = _output("/usr/bin/python3", "-m", "local", "path", "pipeline")
    os.environ["PATH"] = f"{environment}/bin{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        # The steps' checkouts are removed with the folder.
        os.environ["TMPDIR"] = folder
        kfp_local.init(kfp_local.SubprocessRunner(use_venv=False), pipeline_root=folder)
        try:
            build(which, on_this_machine(str(ROOT), branch))(**arguments)
        except RuntimeError as error:
            raise StepError(f"the run has failed: {error}") from error


def _output(*command: str) -> str:
    """Return a command's standard output, without the line break at its end."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def run_arguments(which: str, words: Sequence[str]) -> dict[str, str]:
    """Return a run's parameters from words like NAME=VALUE. Raises StepError for an unknown parameter or step."""
    known = require_pipeline(which).defaults
    for word in words:
        if "=" not in word:
            raise StepError(f"-P {word} has no value; write it as NAME=VALUE")
    arguments = dict(word.partition("=")[::2] for word in words)
    for name in arguments:
        if name not in known:
            raise StepError(f"{which} takes no parameter {name}; it takes {', '.join(known) or 'none'}")
    if which == "step" and arguments.get("step") not in steps():
        raise StepError(f"step is {arguments.get('step', '')!r}; -P step=NAME names one of {', '.join(steps())}")
    return arguments


def compile_pipeline(which: str, values: Values, path: str) -> None:
    """Write a pipeline in Kubeflow's format. Raises StepError."""
    require_pipeline(which)
    if not path.endswith(".yaml"):
        raise StepError(f"--output is {path}; a pipeline's file ends with .yaml")
    config = dsl.PipelineConfig(active_deadline_seconds=seconds(values["pipeline"]["runDeadline"]))
    try:
        compiler.Compiler().compile(build(which, on_cluster(values), config), path)
    except OSError as error:
        raise StepError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def compiled(which: str, values: Values) -> Iterator[str]:
    """Yield the path of a temporary file with a compiled pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{full_name(which)}.yaml"
        compile_pipeline(which, values, path)
        yield path


@contextlib.contextmanager
def connection(options: Options) -> Iterator[Client]:
    """Yield a client of Kubeflow. Raises StepError if it does not answer or refuses a request."""
    try:
        yield Client(host=options.host)
    except ApiException as error:
        raise StepError(f"Kubeflow refuses: {error.status} {error.reason}: {error.body or ''}") from error
    except (HTTPError, OSError) as error:
        raise StepError(f"Kubeflow does not answer at {options.host or 'the place that kfp knows'}: {error}") from error


def main() -> None:
    """Run the command line; print an error as one sentence."""
    try:
        group(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("stopped")
    except StepError as error:
        sys.exit(f"error: {error}")
