"""Train, evaluate, promote, serve and monitor the model: `./run STEP [OPTIONS] [STEP …]`, `./run all`.

MLproject declares the steps and the defaults of their options. Exit status 75 marks an error worth retrying.
"""

import contextlib
import importlib
import inspect
import os
import pkgutil
import shutil
import sys
import time
from typing import NoReturn

from pipeline import interrupts, lock_file, progress

try:
    import click
    import psycopg2
    import psycopg2.errors

    from pipeline import commands, tracking
    from pipeline.databases import first_line, may_pass
    from pipeline.errors import StepError
    from pipeline.help import Help, help_of
    from pipeline.mlproject import LAST_OF_CHAIN, Step, Value, chain, no_module, steps
    from pipeline.settings import ROOT
except ModuleNotFoundError as error:
    fix = lock_file.REBUILD_HINT if os.environ.get(lock_file.LOCK) else "run it as `./run …`"
    sys.exit(f"error: {error.name} is not installed here: {fix}")

PROGRAM = "./run"
# finish_run releases what the other steps left behind, so it runs in any image.
END_OF_RUN = "finish_run"
# With less free space, a full disk is likely to be the reason for which a local database stopped.
FULL_MIB = 64


class Commands(click.Group):
    """A group that lists its commands in the order in which they were added, not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def run_step(context: click.Context, step: Step, values: dict[str, Value]) -> None:
    """Run one step and print its result.

    A refused promotion is an outcome, not a failure: the step that would serve the model is skipped.
    Raises StepError when MLproject and the step disagree about its parameters, or the step fails.
    """
    interrupts.check()
    if step.name == LAST_OF_CHAIN and context.obj.get("is_refused"):
        click.echo(f"{step.name}: skipped, nothing was promoted")
        return
    if step.name != END_OF_RUN:
        lock_file.require_own_lock()
    started = time.monotonic()
    with progress.elapsed_time(step.name):
        run = importlib.import_module(f"pipeline.steps.{step.name}").run
        step.require_parameters(inspect.signature(run).parameters)
        result = run(**values)
    if step.name == "promote_model":
        context.obj["is_refused"] = not result.promoted
        result = result.reason
    click.echo(f"{step.name}: {result} ({time.monotonic() - started:.1f} s)")


def step_command(step: Step) -> click.Command:
    """Return the command of a step; its options and their defaults are the parameters in MLproject.

    Raises StepError when the step has no module.
    """

    @click.pass_context
    def callback(context: click.Context, /, **values: Value) -> None:
        run_step(context, step, values)

    texts = help_of(f"pipeline.steps.{step.name}")
    if texts is None:
        raise StepError(no_module(step.name))
    options: list[click.Parameter] = [
        click.Option(
            _spellings(name), type=parameter.type, default=parameter.default, show_default=True,
            help=texts.options.get(name),
        )
        for name, parameter in step.parameters.items()
    ]  # fmt: skip
    return click.Command(step.name, callback=callback, params=options, help=texts.description, short_help=texts.summary)


def module_command(name: str) -> click.Command:
    """Return the command of a module of pipeline.commands, whose `main` takes the arguments."""
    module = f"{commands.__name__}.{name}"

    def callback(arguments: tuple[str, ...]) -> None:
        main = importlib.import_module(module).main
        try:
            inspect.signature(main).bind(*arguments)
        except TypeError as error:
            raise click.UsageError(f"{name}: {error}") from error
        main(*arguments)

    texts = help_of(module) or Help("", {})
    return click.Command(
        name,
        callback=callback,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        help=texts.description,
        short_help=texts.summary,
        # Options after the name belong to the program that the command starts, such as psql.
        context_settings={"ignore_unknown_options": True},
    )


def _spellings(name: str) -> list[str]:
    """Return an option as MLproject spells it and, where that differs, with hyphens."""
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def command_line() -> click.Group:
    """Return the group of all steps and commands. Raises StepError on a mistake in MLproject."""

    @click.group(cls=Commands, chain=True, help=__doc__, context_settings={"max_content_width": 120})
    @click.pass_context
    def group(context: click.Context) -> None:
        context.obj = {}

    @group.result_callback()
    def print_page(_: object) -> None:
        """Print the address of MLflow's page about the last training, unless MLflow is away."""
        if tracking.used_parents:
            with contextlib.suppress(StepError), tracking.impatient():
                click.echo(f"MLflow: {tracking.page_of(tracking.used_parents[-1])}")

    for step in steps().values():
        group.add_command(step_command(step))

    @group.command("all")
    @click.pass_context
    def run_all(context: click.Context) -> None:
        """Run every step up to deploy_inference_db."""
        for step in chain():
            run_step(context, step, step.defaults)

    @group.command("retrain")
    @click.pass_context
    def retrain(context: click.Context) -> None:
        """Run `all` with the rows that people labelled.

        collect_labels runs before upload_dataset.
        """
        run_retrain(context)

    group.commands["retrain"].short_help = "Run `all` with the rows that people labelled."
    for module in pkgutil.iter_modules(commands.__path__):
        group.add_command(module_command(module.name))
    return group


def run_retrain(context: click.Context) -> None:
    """Run the chain with collect_labels. Raises StepError when MLproject lacks a step or inputs are not stored."""
    for name in ("collect_labels", "upload_dataset"):
        if name not in steps():
            raise StepError(f"MLproject: the entry point {name}, which retrain needs, is missing")
    importlib.import_module("pipeline.steps.collect_labels").require_inputs()
    for step in chain():
        # collect_labels writes to a table that deploy_training_db creates.
        if step.name == "upload_dataset":
            run_step(context, steps()["collect_labels"], steps()["collect_labels"].defaults)
        run_step(context, step, step.defaults)


def main() -> None:
    """Run the command line; a failure prints one sentence.

    Exits with status 75 (EX_TEMPFAIL) for an error that may pass by itself, with 1 for one that a person must fix.
    """
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    interrupts.install()
    try:
        command_line()(prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("stopped; the same command goes on where it stopped")
    except StepError as error:
        fail(str(error), error)
    except psycopg2.Error as error:
        remedy = ""
        if isinstance(error, psycopg2.errors.InsufficientPrivilege):
            remedy = "; run `./run deploy_training_db` or `./run deploy_inference_db`, which grant the rights"
        elif may_pass(error) and (free := shutil.disk_usage(ROOT).free // 2**20) < FULL_MIB:
            remedy = f"; {free} MiB are free at {ROOT}: a database on this disk stops when it is full"
        fail(f"the database {'went away' if may_pass(error) else 'refused'}: {first_line(error)}{remedy}", error)


def fail(sentence: str, error: Exception) -> NoReturn:
    """Print the sentence and exit with the status of the error."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(os.EX_TEMPFAIL if may_pass(error) else 1)


if __name__ == "__main__":
    main()
