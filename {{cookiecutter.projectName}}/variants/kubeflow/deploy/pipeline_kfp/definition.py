"""The pipelines: the steps of MLproject in their order, as graphs of kfp tasks."""

# kfp is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found"

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from pipeline.errors import StepError
from pipeline.mlproject import LAST_OF_CHAIN, chain, steps
from pipeline.settings import settings

# The output of a task or a parameter of a run, or a constant.
Input: TypeAlias = str | PipelineChannel
# The output of each step that decides, and its default.
OUTCOMES = {"promote_model": ("promoted", "false"), "monitor_model": ("decision", "too-little-data")}
# The step that reports a finished run.
END = "finish_run"
# kfp replaces this placeholder by the run's id.
RUN: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Factories of a pipeline's tasks: on a cluster or on this machine."""

    find_commit: Callable[[], dsl.PipelineTask]
    # Name of the step, commit, options.
    step: Callable[[str, Input, Input], dsl.PipelineTask]
    finish: Callable[[], dsl.PipelineTask]


@dataclasses.dataclass(frozen=True)
class Definition:
    """A pipeline: the function that adds its tasks, and its parameters with their defaults."""

    add_tasks: Callable[..., None]
    defaults: Mapping[str, str]


def parameters() -> dict[str, str]:
    """Return the parameters of a training run, STEP_NAME, with the option of the step that each one sets."""
    return {f"{step.name}_{name}": f"--{name}" for step in chain() for name in step.parameters}


def options(step: str, values: Mapping[str, Input]) -> str:
    """Return a step's options; the commit's MLproject has the defaults of those that a run leaves empty."""
    chosen = {name: values.get(f"{step}_{name}") for name in steps()[step].parameters}
    return " ".join(f"--{name}={value}" for name, value in chosen.items() if value is not None)


def add_chain(tasks: Tasks, commit: Input, values: Mapping[str, Input], previous: dsl.PipelineTask) -> None:
    """Add the steps one after the other; the deployment runs only if the promotion's outcome is `true`."""
    promoted = None
    for step in chain():
        if step.name == LAST_OF_CHAIN and promoted is None:
            raise StepError(f"MLproject: promote_model, which decides on {LAST_OF_CHAIN}, is missing before it")
        if step.name == LAST_OF_CHAIN:
            with dsl.If(promoted == "true", name="promoted"):
                tasks.step(step.name, commit, options(step.name, values)).after(previous)
        else:
            previous = tasks.step(step.name, commit, options(step.name, values)).after(previous)
            promoted = previous.output if step.name == "promote_model" else promoted


def train(tasks: Tasks, **values: Input) -> None:
    """Train, evaluate, promote and deploy the newest commit."""
    commit = tasks.find_commit()
    add_chain(tasks, commit.output, values, commit)


def monitor(tasks: Tasks) -> None:
    """Check the served model, and retrain it if necessary."""
    commit = tasks.find_commit()
    previous = tasks.step("monitor_model", commit.output, "").after(commit)
    with dsl.If(previous.output == "retrain", name="retrain"):
        # Labels are useful for training only if their inputs are stored.
        if settings().store_inputs:
            previous = tasks.step("collect_labels", commit.output, "")
        add_chain(tasks, commit.output, {}, previous)


def one_step(tasks: Tasks, step: Input, options: Input) -> None:
    """Run any step with its options, for example rollback and --to_version=1."""
    tasks.step("", tasks.find_commit().output, f"{step} {options}")


def pipelines() -> dict[str, Definition]:
    """Return the pipelines by name."""
    definitions = {
        "train": Definition(train, dict.fromkeys(parameters(), "")),
        "step": Definition(one_step, {"step": "", "options": ""}),
    }
    if settings().include_monitoring:
        definitions["monitor"] = Definition(monitor, {})
    return definitions


def require_pipeline(name: str) -> Definition:
    """Return a pipeline by name. Raises StepError if there is none."""
    if name not in pipelines():
        raise StepError(f"there is no pipeline {name}; there are {', '.join(pipelines())}")
    return pipelines()[name]


def build(name: str, tasks: Tasks, config: dsl.PipelineConfig | None = None) -> BaseComponent:
    """Return a pipeline that kfp can compile and run. Raises StepError."""
    definition = require_pipeline(name)

    def pipeline(*values: Input) -> None:
        with dsl.ExitHandler(tasks.finish(), name="run"):
            definition.add_tasks(tasks, **dict(zip(definition.defaults, values, strict=True)))

    set_signature(pipeline, dict.fromkeys(definition.defaults, str), definition.defaults)
    return dsl.pipeline(
        pipeline, name=full_name(name), description=definition.add_tasks.__doc__, pipeline_config=config
    )


def full_name(name: str) -> str:
    """Return the name of a pipeline and of its recurring run in Kubeflow."""
    return f"{settings().project_name}-{name}"


def set_signature(
    function: Callable[..., object], annotations: Mapping[str, object], defaults: Mapping[str, str] | None = None
) -> None:
    """Give a function with *args the parameters that kfp reads from its signature."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    vars(function)["__signature__"] = inspect.Signature(
        [
            inspect.Parameter(name, kind, annotation=annotation, default=(defaults or {}).get(name, empty))
            for name, annotation in annotations.items()
        ]
    )
    function.__annotations__ = dict(annotations)


def step_command(step: str) -> list[str]:
    """Return the command of a step; for an empty name the first of its options names the step."""
    return ["python", "-m", "pipeline", *([step] if step else [])]
