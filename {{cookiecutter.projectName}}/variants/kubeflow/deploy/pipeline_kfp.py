"""The pipeline for Kubeflow: compile it, run it, let monitoring run by the clock.

`python -m deploy.pipeline_kfp compile|submit|schedule|local`, from the project's folder, in the environment `kubeflow`:

    /usr/bin/python3 -m local run --environment kubeflow --no-servers -- python -m deploy.pipeline_kfp compile

The steps, their order and their parameters are those of MLproject, the values those of deploy/values.yaml with what
deploy/config/schema.yaml adds to them. A step is a pod that fetches the run's commit and works in that checkout: the
image holds no code, and no volume has to be shared between nodes.
"""

import contextlib
import dataclasses
import inspect
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

try:
    import click
    import yaml
    from kfp import Client, compiler, dsl, kubernetes
    from kfp import local as kfp_local
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    from pipeline.errors import StepError
    from pipeline.mlproject import LAST_OF_CHAIN, chain, steps
    from pipeline.settings import settings
except ModuleNotFoundError as error:
    told = "/usr/bin/python3 -m local run --environment kubeflow --no-servers -- python -m deploy.pipeline_kfp …"
    sys.exit(f"error: {error.name} is not installed here: run it from the project's folder as `{told}`")

ROOT = pathlib.Path(__file__).resolve().parent.parent
VALUES = "deploy/values.yaml"
ROLES = ("training-deployer", "trainer", "inference-deployer", "inference-app")
BINDINGS = "/tmp/bindings"
# What a step decides, and what it decided if it did not say.
OUTCOMES = {"promote_model": ("promoted", "false"), "monitor_model": ("decision", "too-little-data")}
# What somebody may want to be said of a finished run.
END = "finish_run"
# The image's user, who may write nothing but /tmp.
USER = 10001
SECONDS = {"s": 1, "m": 60, "h": 3600}
# kfp's names of the placeholders that it fills in when a run starts.
RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER

# Name and password come from a Secret's variables, where the repository asks for them: never from a command line.
# shellcheck reads the three scripts in the tests.
LOGIN = """\
login() {
    # shellcheck disable=SC2016 # a shell that git starts fills it in
    [ -z "${GIT_PASSWORD:-}" ] || set -- -c credential.helper='!f() { echo "username=$GIT_USERNAME"; \
echo "password=$GIT_PASSWORD"; }; f' "$@"
    GIT_TERMINAL_PROMPT=0 git "$@"
}
"""
# $1 repository, $2 branch, $3 file for the commit
FIND_COMMIT = (
    LOGIN
    + """\
set -eu
found=$(login ls-remote --exit-code "$1" "refs/heads/$2")
mkdir -p "$(dirname "$3")"
printf %s "${found%%[!0-9a-f]*}" > "$3"
"""
)
# $1 repository, $2 commit or branch, $3 run, $4 options of the step, those without a value left out, $5 outcome's name,
# $6 outcome where none was given, $7 file for it, then the command
IN_CHECKOUT = (
    LOGIN
    + """\
set -eu
for role in /credentials/*; do
    [ -d "$role" ] || continue
    mkdir -p "$SERVICE_BINDING_ROOT/${role##*/}"
    ln -s "$role/username" "$role/password" "/addresses/${role##*/}"/* "$SERVICE_BINDING_ROOT/${role##*/}/"
done
url=$1 commit=$2 PIPELINE_RUN=$3 options=$4 outcome=$5 otherwise=$6 file=$7
shift 7
cd "$(mktemp -d)"
git init --quiet
login fetch --quiet --depth 1 "$url" "$commit"
git checkout --quiet FETCH_HEAD
GIT_COMMIT=$(git rev-parse HEAD)
STEP_OUTPUTS=$(mktemp -d)
export PIPELINE_RUN GIT_COMMIT STEP_OUTPUTS
set -f
for option in $options; do
    case $option in *=) ;; *) set -- "$@" "$option" ;; esac
done
[ -n "$outcome" ] || exec "$@"
"$@"
mkdir -p "$(dirname "$file")"
cat "$STEP_OUTPUTS/$outcome" > "$file" 2> /dev/null || printf %s "$otherwise" > "$file"
"""
)
# $1 what Kubeflow says of the run, as JSON, then the command
WITH_STATUS = """\
case $1 in *SUCCEEDED*) status=Succeeded ;; *CANCELLED*) status= ;; *) status=Failed ;; esac
shift
exec "$@" "--status=$status"
"""


@dataclasses.dataclass(frozen=True)
class Tasks:
    """What a pipeline is made of: each makes a task of a run."""

    find_commit: Callable[..., dsl.PipelineTask]
    step: Callable[..., dsl.PipelineTask]
    finish: Callable[..., dsl.PipelineTask]


# Values


def read_values(files: Sequence[str]) -> dict[str, Any]:
    """Return the values of the files, the later ones winning, as ytt completes and checks them. Raises StepError."""
    command = ["ytt", "-f", "deploy/config/schema.yaml", "--data-values-inspect"]
    for file in files:
        command += ["--data-values-file", file]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise StepError("ytt is not on PATH: install it (https://carvel.dev/ytt/), 0.46 or later") from error
    if done.returncode:
        raise StepError(f"ytt does not take {' and '.join(files)}:\n{done.stderr.strip()}")
    values = yaml.safe_load(done.stdout)
    if values["git"]["secret"] and not values["git"]["url"].startswith("https://"):
        raise StepError("git.secret is set; with Kubeflow git.url must begin with https:// then")
    # Kubeflow names a pod's volumes after what lies in them.
    named = [values["secrets"][role] or f"{values['name']}-{role}" for role in ROLES]
    wrong = [each for each in named if named.count(each) > 1 or "." in each]
    if wrong:
        raise StepError(
            f"secrets: {wrong[0]}; with Kubeflow each role has a Secret of its own, with no dot in its name"
        )
    return values


def seconds(period: str) -> int:
    """Return the seconds of a period like 30s, 10m or 24h."""
    return int(period[:-1]) * SECONDS[period[-1]]


def cron(monitoring: Mapping[str, Any]) -> str:
    """Return monitoring's schedule as Kubeflow reads it: with seconds. Raises StepError for another clock than UTC."""
    if monitoring["timezone"] not in ("Etc/UTC", "UTC"):
        raise StepError(
            f"monitoring.timezone is {monitoring['timezone']}; Kubeflow's clock is UTC: write monitoring.schedule in "
            "it and leave monitoring.timezone out"
        )
    schedule = monitoring["schedule"]
    return schedule if schedule.startswith("@") else f"0 {schedule}"


# The pipelines


def parameters() -> dict[str, str]:
    """Return the name of each parameter of the chain's steps, as a run is asked for it, and the option it sets."""
    return {f"{step.name}_{name}": f"--{name}" for step in chain() for name in step.parameters}


def options(step: str, given: Mapping[str, Any]) -> str:
    """Return a step's options; those that a run leaves empty are as the commit's MLproject says."""
    named = {name: given.get(f"{step}_{name}") for name in steps()[step].parameters}
    return " ".join(f"--{name}={value}" for name, value in named.items() if value is not None)


def whole_chain(tasks: Tasks, sha: Any, given: Mapping[str, Any], after: dsl.PipelineTask) -> None:
    """Run the steps one after the other; a refused promotion is an outcome, and leaves nothing to deploy."""
    promoted = None
    for step in chain():
        if step.name == LAST_OF_CHAIN and promoted is None:
            raise StepError(f"MLproject: promote_model, which decides on {LAST_OF_CHAIN}, is missing before it")
        if step.name == LAST_OF_CHAIN:
            with dsl.If(promoted == "true", name="promoted"):
                tasks.step(step.name, sha, options(step.name, given)).after(after)
        else:
            after = tasks.step(step.name, sha, options(step.name, given)).after(after)
            promoted = after.output if step.name == "promote_model" else promoted


def train(tasks: Tasks, **given: Any) -> None:
    """Train, evaluate, promote and deploy the newest commit."""
    first = tasks.find_commit()
    whole_chain(tasks, first.output, given, first)


def monitor(tasks: Tasks) -> None:
    """Look at what is served, and train again when it has to be."""
    first = tasks.find_commit()
    watched = tasks.step("monitor_model", first.output, "").after(first)
    with dsl.If(watched.output == "retrain", name="retrain"):
        # Labels without their inputs are nothing to train on.
        if settings().store_inputs:
            watched = tasks.step("collect_labels", first.output, "")
        whole_chain(tasks, first.output, {}, watched)


def one_step(tasks: Tasks, step: Any, options: Any) -> None:
    """Run any step with its options, for example rollback and --to_version=1."""
    tasks.step("", tasks.find_commit().output, f"{step} {options}")


def pipelines() -> dict[str, tuple[Callable[..., None], dict[str, str]]]:
    """Return each pipeline by name: what runs, and its parameters with their defaults."""
    found: dict[str, tuple[Callable[..., None], dict[str, str]]] = {
        "train": (train, dict.fromkeys(parameters(), "")),
        "step": (one_step, {"step": "", "options": ""}),
    }
    if settings().include_monitoring:
        found["monitor"] = (monitor, {})
    return found


def define(which: str, tasks: Tasks, config: dsl.PipelineConfig | None = None) -> Any:
    """Return a pipeline as kfp compiles and runs it."""
    run, defaults = pipelines()[which]

    def pipeline(*given: Any) -> None:
        with dsl.ExitHandler(tasks.finish(), name="run"):
            run(tasks, **dict(zip(defaults, given, strict=True)))

    takes(pipeline, dict.fromkeys(defaults, str), defaults)
    return dsl.pipeline(pipeline, name=name_of(which), description=run.__doc__, pipeline_config=config)


def name_of(which: str) -> str:
    """Return a pipeline's name, of its runs and of the experiment that they are in."""
    return f"{settings().project_name}-{which}"


def takes(
    function: Callable[..., Any], annotated: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Give a function of any arguments those that kfp is to see: names with types, and defaults."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, kind, annotation=type_, default=(defaults or {}).get(name, empty))
            for name, type_ in annotated.items()
        ]
    )
    function.__annotations__ = dict(annotated)


def words(step: str) -> list[str]:
    """Return the command of a step; without one its name is the first of the options."""
    return ["python", "-m", "pipeline", *([step] if step else [])]


# On a cluster: each step is a container


def container(
    name: str, image: str, script: str, inputs: Mapping[str, Any], arguments: Callable[..., list[Any]]
) -> Any:
    """Return a component that runs a script in the image with what `arguments` makes of the inputs."""

    def component(*given: Any) -> dsl.ContainerSpec:
        told = arguments(**dict(zip(inputs, given, strict=True)))
        return dsl.ContainerSpec(image=image, command=["sh", "-c", script, name], args=told)

    takes(component, inputs)
    component.__name__ = name
    component.__doc__ = None
    return dsl.container_component(component)


def on_cluster(values: Mapping[str, Any]) -> Tasks:
    """Return the tasks as pods of the project's image, with the values' resources, tries and Secrets."""
    image, url, branch = values["pipeline"]["image"], values["git"]["url"], values["git"]["branch"]

    def find_commit() -> dsl.PipelineTask:
        inputs = {"url": str, "branch": str, "sha": dsl.OutputPath(str)}
        made = container("fetch_git_revision", image, FIND_COMMIT, inputs, lambda url, branch, sha: [url, branch, sha])
        return pod(made(url=url, branch=branch), values, bound=False, deadline=600, factor=2)

    def step(name: str, sha: Any, told: Any) -> dsl.PipelineTask:
        outcome, otherwise = OUTCOMES.get(name, ("", ""))
        inputs = {"url": str, "sha": str, "run": str, "options": str}

        def arguments(url: Any, sha: Any, run: Any, options: Any, **file: Any) -> list[Any]:
            return [url, sha, run, options, outcome, otherwise, file.get(outcome, ""), *words(name)]

        inputs |= {outcome: dsl.OutputPath(str)} if outcome else {}
        made = container(name or "step", image, IN_CHECKOUT, inputs, arguments)
        deadline = seconds(values["pipeline"]["stepDeadline"])
        return pod(made(url=url, sha=sha, run=RUN, options=told), values, bound=True, deadline=deadline, factor=6)

    def finish() -> dsl.PipelineTask:
        # A task of the end is told nothing by those before it: it works on the branch's newest commit.
        inputs = {"url": str, "branch": str, "run": str, "status": dsl.PipelineTaskFinalStatus}

        def arguments(url: Any, branch: Any, run: Any, status: Any) -> list[Any]:
            return [url, branch, run, "", "", "", "", "sh", "-c", WITH_STATUS, END, status, *words(END)]

        made = container(END, image, IN_CHECKOUT, inputs, arguments)
        return pod(made(url=url, branch=branch, run=RUN), values, bound=True, deadline=600, factor=2)

    return Tasks(find_commit, step, finish)


def pod(task: dsl.PipelineTask, values: Mapping[str, Any], bound: bool, deadline: int, factor: int) -> dsl.PipelineTask:
    """Give a task what its pod needs: resources, tries, labels, and with `bound` databases and MLflow."""
    found, training, name = values["pipeline"], values["training"], values["name"]
    task.set_caching_options(enable_caching=False)
    # kfp would give up an hour after the first try's start: no long step would be tried again.
    task.set_retry(found["retries"], "10s", factor, f"{seconds(found['runDeadline'])}s")
    task.set_cpu_request(found["resources"]["requests"]["cpu"])
    task.set_memory_request(found["resources"]["requests"]["memory"])
    task.set_memory_limit(found["resources"]["limits"]["memory"])
    task.set_env_variable("HOME", "/tmp")
    kubernetes.set_timeout(task, deadline)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    for label, value in (("name", f"{name}-pipeline"), ("component", "pipeline"), ("part-of", name)):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{label}", value)
    if values["imagePullSecret"]:
        kubernetes.set_image_pull_secrets(task, [values["imagePullSecret"]])
    if values["git"]["secret"]:
        login(task, values["git"]["secret"], "GIT")
    if bound:
        task.set_env_variable("MODEL_STAGE", training["stage"])
        task.set_env_variable("SERVICE_BINDING_ROOT", BINDINGS)
        task.set_env_variable("MLFLOW_TRACKING_URI", training["mlflow"]["url"])
        if training["mlflow"]["secret"]:
            login(task, training["mlflow"]["secret"], "MLFLOW_TRACKING")
        for role in ROLES:
            bind(task, values, role)
    return task


def login(task: dsl.PipelineTask, secret: str, prefix: str) -> None:
    """Give a task a Secret's username and password as variables."""
    kubernetes.use_secret_as_env(task, secret, {key: f"{prefix}_{key.upper()}" for key in ("username", "password")})


def bind(task: dsl.PipelineTask, values: Mapping[str, Any], role: str) -> None:
    """Give a task a role's binding: the Secret, or the Secret and the ConfigMap that the step lays together."""
    secret = values["secrets"][role] or f"{values['name']}-{role}"
    if values["credentials"] == "kubernetes-secret":
        kubernetes.use_secret_as_volume(task, secret, f"/credentials/{role}")
        kubernetes.use_config_map_as_volume(task, f"{values['name']}-{role}-db", f"/addresses/{role}")
    else:
        kubernetes.use_secret_as_volume(task, secret, f"{BINDINGS}/{role}")


# On this machine: the same scripts, by kfp's own runner, which takes Python functions alone and reads their text


@dsl.component(base_image="python:3.11")
def run_find_commit(script: str, url: str, branch: str, sha: dsl.OutputPath(str)):
    """Run FIND_COMMIT."""
    import subprocess
    import sys

    code = subprocess.run(["sh", "-c", script, "fetch_git_revision", url, branch, sha]).returncode
    if code:
        sys.exit(code)


@dsl.component(base_image="python:3.11")
def run_step(script: str, url: str, sha: str, run: str, options: str, command: list):
    """Run IN_CHECKOUT for a step that decides nothing."""
    import subprocess
    import sys

    given = [url, sha, run, options, "", "", ""]
    code = subprocess.run(["sh", "-c", script, command[-1], *given, *command]).returncode
    if code:
        sys.exit(code)


# The runner's conditions read what a function returns, and no file.
@dsl.component(base_image="python:3.11")
def run_deciding_step(
    script: str, url: str, sha: str, run: str, options: str, command: list, name: str, otherwise: str
) -> str:
    """Run IN_CHECKOUT for a step that decides; return the outcome."""
    import pathlib
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        given = [url, sha, run, options, name, otherwise, f"{folder}/outcome"]
        code = subprocess.run(["sh", "-c", script, command[-1], *given, *command]).returncode
        if code:
            sys.exit(code)
        return pathlib.Path(folder, "outcome").read_text()


@dsl.component(base_image="python:3.11")
def run_finish(
    script: str, url: str, branch: str, run: str, with_status: str, command: list, status: dsl.PipelineTaskFinalStatus
):
    """Run IN_CHECKOUT and in it WITH_STATUS."""
    import subprocess
    import sys

    given = [url, branch, run, "", "", "", "", "sh", "-c", with_status, command[-1], status.state]
    code = subprocess.run(["sh", "-c", script, command[-1], *given, *command]).returncode
    if code:
        sys.exit(code)


def on_this_machine(url: str, branch: str) -> Tasks:
    """Return the tasks as processes here, on a repository's branch."""

    def find_commit() -> dsl.PipelineTask:
        return run_find_commit(script=FIND_COMMIT, url=url, branch=branch)

    def step(name: str, sha: Any, told: Any) -> dsl.PipelineTask:
        given = {"script": IN_CHECKOUT, "url": url, "sha": sha, "run": RUN, "options": told, "command": words(name)}
        if name not in OUTCOMES:
            return run_step(**given)
        outcome, otherwise = OUTCOMES[name]
        return run_deciding_step(**given, name=outcome, otherwise=otherwise)

    def finish() -> dsl.PipelineTask:
        given = {"script": IN_CHECKOUT, "with_status": WITH_STATUS, "command": words(END)}
        return run_finish(**given, url=url, branch=branch, run=RUN)

    return Tasks(find_commit, step, finish)


# Commands


def asked(which: str) -> str:
    """Return the name of a pipeline. Raises StepError when there is none."""
    if which not in pipelines():
        raise StepError(f"there is no pipeline {which}; there are {', '.join(pipelines())}")
    return which


def arguments_of(which: str, given: Sequence[str]) -> dict[str, str]:
    """Return a run's parameters, given as NAME=VALUE. Raises StepError for one that the pipeline does not take, or
    a step that there is none of."""
    known = pipelines()[asked(which)][1]
    for word in given:
        if "=" not in word:
            raise StepError(f"-P {word} has no value; write it as NAME=VALUE")
    found = dict(word.partition("=")[::2] for word in given)
    for name in found:
        if name not in known:
            raise StepError(f"{which} takes no parameter {name}; it takes {', '.join(known) or 'none'}")
    if which == "step" and found.get("step") not in (every := steps()):
        raise StepError(f"step is {found.get('step', '')!r}; -P step=NAME names one of {', '.join(every)}")
    return found


def write(which: str, values: Mapping[str, Any], path: str) -> None:
    """Write a pipeline as Kubeflow reads it. Raises StepError."""
    asked(which)
    if not path.endswith(".yaml"):
        raise StepError(f"--output is {path}; a pipeline's file ends with .yaml")
    config = dsl.PipelineConfig(active_deadline_seconds=seconds(values["pipeline"]["runDeadline"]))
    try:
        compiler.Compiler().compile(define(which, on_cluster(values), config), path)
    except OSError as error:
        raise StepError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def package(which: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Give the path of a compiled pipeline, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name_of(which)}.yaml"
        write(which, values, path)
        yield path


@click.group(help=__doc__)
@click.option("--values", "files", multiple=True, default=[VALUES], show_default=True, help="Later ones win.")
@click.option("--host", envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow's address, else kfp's own ways to find it.")
@click.option("--multi-user", is_flag=True, help="The values' namespace is a profile's.")
@click.pass_context
def group(context: click.Context, files: Sequence[str], host: str | None, multi_user: bool) -> None:
    """Remember what every command is given."""
    context.obj = {"files": files, "host": host, "multi_user": multi_user}


@group.command("compile")
@click.argument("which", default="train")
@click.option("--output", required=True, help="The file to write.")
@click.pass_obj
def compile_command(given: Mapping[str, Any], which: str, output: str) -> None:
    """Write a pipeline (train, step, monitor) as a file for Kubeflow's page."""
    write(which, read_values(given["files"]), output)
    click.echo(f"{output}: {name_of(which)}")


@group.command()
@click.argument("which", default="train")
@click.option("-P", "parameter", multiple=True, help="NAME=VALUE; what is left out is as the commit's MLproject says.")
@click.pass_obj
def submit(given: Mapping[str, Any], which: str, parameter: Sequence[str]) -> None:
    """Run a pipeline once, on the branch's newest commit."""
    told = arguments_of(which, parameter)
    values = read_values(given["files"])
    with connected(given) as client, package(which, values) as path:
        run = client.create_run_from_pipeline_package(
            path,
            told,
            experiment_name=settings().project_name,
            namespace=namespace(given, values),
            enable_caching=False,
        )
    click.echo(f"{name_of(which)}: run {run.run_id}")


@group.command()
@click.pass_obj
def schedule(given: Mapping[str, Any]) -> None:
    """Run `monitor` by the values' clock, in place of what was scheduled before; with monitoring off: not any more."""
    values = read_values(given["files"])
    when, name = cron(values["monitoring"]), name_of("monitor")
    with connected(given) as client, package(asked("monitor"), values) as path:
        place = namespace(given, values)
        experiment = client.create_experiment(settings().project_name, namespace=place).experiment_id
        for old in client.list_recurring_runs(page_size=100, experiment_id=experiment).recurring_runs or []:
            if old.display_name == name:
                client.delete_recurring_run(old.recurring_run_id)
        if values["monitoring"]["enabled"]:
            client.create_recurring_run(
                experiment, name, cron_expression=when, max_concurrency=1, no_catchup=True,
                pipeline_package_path=path, enable_caching=False,
            )  # fmt: skip
    click.echo(f"{name}: {when if values['monitoring']['enabled'] else 'not scheduled'}")


@group.command("local")
@click.argument("which", default="train")
@click.option("-P", "parameter", multiple=True, help="NAME=VALUE; what is left out is as MLproject says.")
def local_command(which: str, parameter: Sequence[str]) -> None:
    """Run a pipeline on this machine with what is committed here, by kfp's own runner."""
    told = arguments_of(which, parameter)
    branch = subprocess.run(
        ["git", "branch", "--show-current"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    if not branch:
        raise StepError(f"{ROOT} is on no branch of a git repository: commit what is to run")
    # What `python` is in the image: the steps' environment comes before that of kfp, which knows its own.
    found = subprocess.run(
        ["/usr/bin/python3", "-m", "local", "path", "pipeline"], cwd=ROOT, capture_output=True, text=True
    )
    os.environ["PATH"] = f"{found.stdout.strip()}/bin{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        # The steps' checkouts go with it.
        os.environ["TMPDIR"] = folder
        kfp_local.init(kfp_local.SubprocessRunner(use_venv=False), pipeline_root=folder)
        try:
            define(which, on_this_machine(str(ROOT), branch))(**told)
        except RuntimeError as error:
            raise StepError(f"the run has failed: {error}") from error


def namespace(given: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Return the profile's namespace; an installation for one user has its own."""
    return values["namespace"] if given["multi_user"] else None


@contextlib.contextmanager
def connected(given: Mapping[str, Any]) -> Iterator[Client]:
    """Give a session with Kubeflow. Raises StepError when it does not answer or refuses."""
    try:
        yield Client(host=given["host"])
    except ApiException as error:
        raise StepError(f"Kubeflow refuses: {error.status} {error.reason}: {error.body or ''}") from error
    except (HTTPError, OSError) as error:
        raise StepError(
            f"Kubeflow does not answer at {given['host'] or 'the place that kfp knows'}: {error}"
        ) from error


def main() -> None:
    """Run the command line; a failure is printed as one sentence."""
    try:
        group(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("stopped")
    except StepError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
