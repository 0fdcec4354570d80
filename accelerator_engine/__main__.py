"""The command line: `python -m accelerator_engine generate | lint | derive | serve`."""

import difflib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from accelerator_engine.derive import derived, stale
from accelerator_engine.engine import IMPLICIT, Accelerator, Project, generate, load_folder
from accelerator_engine.lint import findings
from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer
from accelerator_engine.transforms import GenerationFailed
from accelerator_engine.tree import InvalidTree

_Folder = click.Path(exists=True, file_okay=False, path_type=Path)


class _FragmentPath(click.ParamType[tuple[str, Path]]):
    """An argument of the form `name=folder`."""

    name = "name=folder"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Return the name and the folder. Raises click.BadParameter."""
        if isinstance(value, tuple):
            return value
        name, _, folder = str(value).partition("=")
        if not name or not Path(folder).is_dir() or not folder:
            self.fail(f"{value!r} is not name=folder with a folder that exists.", param, ctx)
        return name, Path(folder)


_fragment_paths = click.option(
    "--fragment-path",
    "fragments",
    type=_FragmentPath(),
    multiple=True,
    help="The folder of an imported fragment; repeatable.",
)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Print a user's mistake as one sentence without a traceback, and exit with 1."""
    try:
        yield
    except (InvalidManifest, InvalidAnswer, InvalidTree, GenerationFailed) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{place}{error.strerror or error}") from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Try, check and serve an accelerator.yaml on this machine."""


@main.command("generate")
@click.option(
    "--accelerator-path",
    "folder",
    type=_Folder,
    default=".",
    show_default=True,
    help="The folder with accelerator.yaml.",
)
@_fragment_paths
@click.option("--options", "inline", metavar="JSON", help="The answers as a JSON object.")
@click.option("--options-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with them.")
@click.option(
    "-o",
    "--output-dir",
    "output",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    help="The folder of the new project's folder.",
)
@click.option("-f", "--force", is_flag=True, help="Write into the project's folder even if it is not empty.")
def generate_command(
    folder: Path,
    fragments: tuple[tuple[str, Path], ...],
    inline: str | None,
    options_file: Path | None,
    output: Path,
    force: bool,
) -> None:
    """Generate a project into OUTPUT/<projectName>/."""
    with _user_errors():
        answers = _answers(inline, options_file)
        accelerator = load_folder(folder, fragments=dict(fragments))
        _warn(accelerator, answers)
        project = generate(accelerator, answers)
        target = output / project.name
        _write(project, target, force=force)
    click.echo(f"generated project {target}")


def _answers(inline: str | None, options_file: Path | None) -> Mapping[str, object]:
    if inline is not None and options_file is not None:
        raise click.UsageError("use --options or --options-file, not both.")
    place = "--options" if options_file is None else str(options_file)
    text = inline or "{}" if options_file is None else options_file.read_bytes()
    try:
        answers = json.loads(text)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{place} is not JSON: it is not UTF-8 text.") from error
    except ValueError as error:
        raise click.ClickException(f"{place} is not JSON: {error}.") from error
    if not isinstance(answers, dict):
        raise click.ClickException(f"{place} is not a JSON object of option names and values.")
    return answers


def _warn(accelerator: Accelerator, answers: Mapping[str, object]) -> None:
    """Warn of probable mistakes that the engine accepts silently."""
    known = [option.name for option in accelerator.options]
    for name in answers.keys() - {*known, *IMPLICIT}:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        click.echo(f"Warning: {name} is not an option of this accelerator{hint}.", err=True)
    if accelerator.content is None or accelerator.engine is None:
        missing = "accelerator.yaml" if accelerator.content is None else "engine in accelerator.yaml"
        click.echo(f"Warning: there is no {missing}, so every file is copied unchanged.", err=True)


def _write(project: Project, target: Path, *, force: bool) -> None:
    """Write the whole project or nothing: a new project is complete before it gets its name."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise click.ClickException(f"{target} is not a folder.")
    if target.is_dir() and any(target.iterdir()):
        if not force:
            raise click.ClickException(f"path {target} is not empty, use --force to overwrite")
        project.write(target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{project.name}-") as place:
        complete = Path(place) / project.name
        complete.mkdir()
        project.write(complete)
        complete.rename(target)


@main.command("lint")
@click.argument("folder", type=_Folder, default=".")
@_fragment_paths
def lint_command(folder: Path, fragments: tuple[tuple[str, Path], ...]) -> None:
    """List errors and suspicious places in FOLDER/accelerator.yaml."""
    with _user_errors():
        results = findings(folder, dict(fragments))
    for finding in results:
        click.echo(str(finding))
    sys.exit(1 if results else 0)


@main.command("derive")
@click.argument("folder", type=_Folder, default=".")
@click.option("--check", is_flag=True, help="Write nothing; fail if a derived file is out of date.")
def derive_command(folder: Path, check: bool) -> None:
    """Write the files that are derived from FOLDER/accelerator.yaml."""
    with _user_errors():
        files = derived(folder)
        differing = list(stale(files))
        for path in differing:
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files[path], encoding="utf-8")
            click.echo(f"{path} {'is out of date; run make derive' if check else 'written'}")
    sys.exit(1 if check and differing else 0)


@main.command("serve")
@click.option(
    "--accelerator-path", "accelerators", metavar="[NAME=]DIR", multiple=True, help="An accelerator; repeatable."
)
@click.option("--fragment-path", "fragments", metavar="[NAME=]DIR", multiple=True, help="A fragment; repeatable.")
@click.option(
    "--local-files", envvar="ACC_LOCAL_FILES", type=_Folder, help="A folder with accelerators/ and fragments/ below it."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8888, show_default=True, type=click.IntRange(0, 65535))
def serve_command(
    accelerators: tuple[str, ...], fragments: tuple[str, ...], local_files: Path | None, host: str, port: int
) -> None:
    """Serve accelerators as TAP's engine does, for `tanzu accelerator … --server-url`."""
    # Only this command loads the web server.
    from accelerator_engine.server import InvalidLibrary, Library, named_folders, serve

    with _user_errors():
        try:
            library = Library(named_folders(accelerators), named_folders(fragments), local_files)
        except InvalidLibrary as error:
            raise click.ClickException(str(error)) from error
        try:
            serve(library, port, host, started=lambda url: click.echo(f"serving {url}"))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise click.ClickException(f"cannot listen on port {port} of {host}: {reason}") from error


if __name__ == "__main__":
    main(prog_name="python -m accelerator_engine")
