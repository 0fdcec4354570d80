"""Command line: `python -m pipeline <step> [options] [<step> …]`, `all` or `retrain`. Options come from MLproject."""

import importlib
import importlib.util
import inspect
import os
import sys
import time
from typing import Any, NoReturn

from pipeline import lock_file

try:
    import click
    import psycopg2

    from pipeline.databases import first_line, may_pass
    from pipeline.errors import StepError
    from pipeline.mlproject import LAST_OF_CHAIN, Step, chain, steps
except ModuleNotFoundError as error:
    mend = "run it as `/usr/bin/python3 -m local run -- python -m pipeline …`"
    sys.exit(f"error: {error.name} is not installed here: {lock_file.MEND if os.environ.get(lock_file.LOCK) else mend}")

# It ends what the others began: it must run in whatever image there is.
END_OF_RUN = "finish_run"


def run_step(context: click.Context, step: Step, values: dict[str, Any]) -> None:
    """Run one step and print its answer, unless the promotion before it was refused."""
    # A refused promotion is an outcome, not a failure: what would serve the model is skipped.
    if step.name == LAST_OF_CHAIN and context.obj.get("refused"):
        click.echo(f"{step.name}: skipped, nothing was promoted")
        return
    if step.name != END_OF_RUN:
        lock_file.require_own_lock()
    started = time.monotonic()
    run = importlib.import_module(f"pipeline.steps.{step.name}").run
    taken = list(inspect.signature(run).parameters)
    if sorted(taken) != sorted(values):
        raise StepError(f"MLproject: {step.name} has the parameters {sorted(values)}; the step takes {sorted(taken)}")
    answer = run(**values)
    if step.name == "promote_model":
        context.obj["refused"] = not answer.promoted
        answer = answer.reason
    click.echo(f"{step.name}: {answer} ({time.monotonic() - started:.1f} s)")


def command(step: Step) -> click.Command:
    """Make the command of a step: its options and their defaults are the parameters in MLproject."""

    @click.pass_context
    def callback(context: click.Context, **values: Any) -> None:
        run_step(context, step, values)

    if importlib.util.find_spec(f"pipeline.steps.{step.name}") is None:
        raise StepError(f"MLproject names the entry point {step.name}; there is no pipeline/steps/{step.name}.py")
    options = [
        click.Option(_spellings(name), type=kind, default=default, show_default=True)
        for name, (kind, default) in step.parameters.items()
    ]
    return click.Command(step.name, callback=callback, params=options)


def _spellings(name: str) -> list[str]:
    """Return an option as MLproject names it and, where that differs, as command lines usually do."""
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def command_line() -> click.Group:
    """Make the group of all steps, which can be named one after the other."""

    @click.group(chain=True, help=__doc__)
    @click.pass_context
    def group(context: click.Context) -> None:
        context.obj = {}

    found = steps()
    for step in found.values():
        group.add_command(command(step))

    @group.command("all", help="Run the chain: every step up to deploy_inference_db, with its defaults.")
    @click.pass_context
    def run_all(context: click.Context) -> None:
        for step in chain():
            run_step(context, step, step.defaults)

    @group.command(
        "retrain", help="Run the chain with what people have labelled: collect_labels comes before upload_dataset."
    )
    @click.pass_context
    def retrain(context: click.Context) -> None:
        for name in ("collect_labels", "upload_dataset"):
            if name not in found:
                raise StepError(f"MLproject: the entry point {name}, which retrain needs, is missing")
        importlib.import_module("pipeline.steps.collect_labels").require_inputs()
        for step in chain():
            # What was labelled needs its table, which deploy_training_db makes.
            if step.name == "upload_dataset":
                run_step(context, found["collect_labels"], found["collect_labels"].defaults)
            run_step(context, step, step.defaults)

    return group


def main() -> None:
    """Run the command line; a failure is printed as one sentence.

    The exit status is 75 (EX_TEMPFAIL) for what may pass by itself, 1 for what a person must mend.
    """
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        command_line()(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("stopped; the same command goes on where it stopped")
    except StepError as error:
        end(str(error), error)
    except psycopg2.Error as error:
        end(f"the database {'went away' if may_pass(error) else 'refused'}: {first_line(error)}", error)


def end(told: str, error: Exception) -> NoReturn:
    """Print the sentence and exit with the status that fits the error."""
    print(f"error: {told}", file=sys.stderr)
    sys.exit(os.EX_TEMPFAIL if may_pass(error) else 1)


if __name__ == "__main__":
    main()
