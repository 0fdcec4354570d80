"""Tasks on a cluster: each is a pod that runs a script in the project's image.

A step's pod fetches the run's commit and works in that checkout: the image holds no code, and nodes share no volume.
"""

# kfp is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found"

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from deploy.pipeline_kfp.definition import END, OUTCOMES, RUN, Input, Tasks, set_signature, step_command
from deploy.pipeline_kfp.scripts import FIND_COMMIT, IN_CHECKOUT, WITH_STATUS
from deploy.pipeline_kfp.values import ROLES, Values, seconds, secret_name

BINDINGS = "/tmp/bindings"
# The image's user, who may write only to /tmp.
USER = 10001


def on_cluster(values: Values) -> Tasks:
    """Return the tasks as pods with the values' image, resources, retries and Secrets."""
    image, url, branch = values["pipeline"]["image"], values["git"]["url"], values["git"]["branch"]

    def find_commit() -> dsl.PipelineTask:
        inputs = {"url": str, "branch": str, "sha": dsl.OutputPath(str)}
        component = _component(
            "fetch_git_revision", image, FIND_COMMIT, inputs, lambda url, branch, sha: [url, branch, sha]
        )
        return configure_pod(component(url=url, branch=branch), values, deadline=600, backoff_factor=2)

    def step(name: str, commit: Input, options: Input) -> dsl.PipelineTask:
        component = _step_component(name, image)
        task = component(url=url, sha=commit, run=RUN, options=options)
        deadline = seconds(values["pipeline"]["stepDeadline"])
        return bind(configure_pod(task, values, deadline=deadline, backoff_factor=6), values)

    def finish() -> dsl.PipelineTask:
        # An exit task gets no output of other tasks, so it works on the branch's newest commit.
        inputs = {"url": str, "branch": str, "run": str, "status": dsl.PipelineTaskFinalStatus}

        def arguments(url: Input, branch: Input, run: Input, status: Input) -> list[Input]:
            return [url, branch, run, "", "", "", "", "sh", "-c", WITH_STATUS, END, status, *step_command(END)]

        component = _component(END, image, IN_CHECKOUT, inputs, arguments)
        task = component(url=url, branch=branch, run=RUN)
        return bind(configure_pod(task, values, deadline=600, backoff_factor=2), values)

    return Tasks(find_commit, step, finish)


def _step_component(name: str, image: str) -> BaseComponent:
    outcome, default = OUTCOMES.get(name, ("", ""))

    def arguments(url: Input, sha: Input, run: Input, options: Input, **file: Input) -> list[Input]:
        return [url, sha, run, options, outcome, default, file.get(outcome, ""), *step_command(name)]

    inputs: dict[str, object] = {"url": str, "sha": str, "run": str, "options": str}
    if outcome:
        inputs[outcome] = dsl.OutputPath(str)
    return _component(name or "step", image, IN_CHECKOUT, inputs, arguments)


def _component(
    name: str, image: str, script: str, inputs: Mapping[str, object], arguments: Callable[..., list[Input]]
) -> BaseComponent:
    """Return a component that runs a script in the image; `arguments` turns the inputs into the script's arguments."""

    def component(*values: Any) -> dsl.ContainerSpec:
        words = arguments(**dict(zip(inputs, values, strict=True)))
        return dsl.ContainerSpec(image=image, command=["sh", "-c", script, name], args=words)

    set_signature(component, inputs)
    component.__name__ = name
    component.__doc__ = None
    return dsl.container_component(component)


def configure_pod(task: dsl.PipelineTask, values: Values, *, deadline: int, backoff_factor: int) -> dsl.PipelineTask:
    """Set a task's resources, retries, deadline in seconds, user, labels and credentials for images and git."""
    pipeline, name = values["pipeline"], values["name"]
    task.set_caching_options(enable_caching=False)
    # kfp's own maximum is one hour after the start of the first attempt: it would never retry a long step.
    task.set_retry(pipeline["retries"], "10s", backoff_factor, f"{seconds(pipeline['runDeadline'])}s")
    task.set_cpu_request(pipeline["resources"]["requests"]["cpu"])
    task.set_memory_request(pipeline["resources"]["requests"]["memory"])
    task.set_memory_limit(pipeline["resources"]["limits"]["memory"])
    task.set_env_variable("HOME", "/tmp")
    kubernetes.set_timeout(task, deadline)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    for label, value in (("name", f"{name}-pipeline"), ("component", "pipeline"), ("part-of", name)):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{label}", value)
    if values["imagePullSecret"]:
        kubernetes.set_image_pull_secrets(task, [values["imagePullSecret"]])
    if values["git"]["secret"]:
        use_login(task, values["git"]["secret"], "GIT")
    return task


def bind(task: dsl.PipelineTask, values: Values) -> dsl.PipelineTask:
    """Give a task access to the databases and to MLflow."""
    training = values["training"]
    task.set_env_variable("MODEL_STAGE", training["stage"])
    task.set_env_variable("SERVICE_BINDING_ROOT", BINDINGS)
    task.set_env_variable("MLFLOW_TRACKING_URI", training["mlflow"]["url"])
    if training["mlflow"]["secret"]:
        use_login(task, training["mlflow"]["secret"], "MLFLOW_TRACKING")
    for role in ROLES:
        mount_binding(task, values, role)
    return task


def use_login(task: dsl.PipelineTask, secret: str, prefix: str) -> None:
    """Set a Secret's user name and password as environment variables."""
    kubernetes.use_secret_as_env(task, secret, {key: f"{prefix}_{key.upper()}" for key in ("username", "password")})


def mount_binding(task: dsl.PipelineTask, values: Values, role: str) -> None:
    """Mount a role's binding: a Secret, or a Secret and a ConfigMap, which the step's script joins."""
    secret = secret_name(values, role)
    if values["credentials"] == "kubernetes-secret":
        kubernetes.use_secret_as_volume(task, secret, f"/credentials/{role}")
        kubernetes.use_config_map_as_volume(task, f"{values['name']}-{role}-db", f"/addresses/{role}")
    else:
        kubernetes.use_secret_as_volume(task, secret, f"{BINDINGS}/{role}")
