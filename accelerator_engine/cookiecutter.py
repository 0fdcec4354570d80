"""The check of answers in a cookiecutter run, before it writes a file.

cookiecutter creates the project's folder before it runs hooks, so a hook is too late: with the name
`../evil` the folder already exists. Before that it renders the default of each question and the name
of the folder. This extension therefore

* checks the answers whenever cookiecutter renders something, and
* keeps the text of an answer unchanged. cookiecutter renders answers as templates: `{{ 7*7 }}`
  becomes the valid number 49, and Jinja may drop a line break at the end.

For a FailedHookException cookiecutter prints the text without a traceback, and exits with 1.

Each environment reads the files again, because `cruft update` checks out two versions of the
template within one process.
"""

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import click
from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension
from jinja2.runtime import Context

from accelerator_engine.options import InvalidAnswer, check, completed, read_options

_TEMPLATE = Path(__file__).resolve().parents[1]
_FOLDER = "{{cookiecutter.projectName}}"

# cookiecutter and cruft add this key after the last question and before the first file.
_COMPLETE = "_template"

# Tells the hook after generation whether files that are there stay.
_KEEPS_FILES = "_keepsFiles"

# Settings of cookiecutter itself, whether or not this template sets them.
_OBEYED = ("_extensions", "_copy_without_render", "_jinja2_env_vars", "_new_lines")


def _literal(text: str) -> str:
    """Return the source of a template that renders as exactly this text."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'{{{{ "{escaped}" }}}}'


def _keeps_files() -> bool:
    """Whether cookiecutter's command line has --skip-if-file-exists, which cookiecutter gives to no hook."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("skip_if_file_exists"))


def _as_text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class CheckedContext(Context):
    """The variables of a rendering; creating them checks the answers."""

    def __init__(
        self,
        environment: Environment,
        parent: dict[str, Any],
        name: str | None,
        blocks: dict[str, Any],
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002, Jinja passes it by this name
    ) -> None:
        """Check the answers so far. Raises FailedHookException."""
        extension = environment.extensions[AnswersExtension.identifier]
        answers = parent.get("cookiecutter")
        if isinstance(extension, AnswersExtension) and isinstance(answers, Mapping):
            extension.check(answers)
        super().__init__(environment, parent, name, blocks, globals)


class AnswersExtension(Extension):
    """Check every answer against accelerator.yaml, and every setting against cookiecutter.json."""

    def __init__(self, environment: Environment) -> None:
        """Attach to an environment; cookiecutter creates one each for questions, files and hooks."""
        super().__init__(environment)
        self._options = read_options(_TEMPLATE / "accelerator.yaml")
        self._settings = json.loads((_TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
        hooks = (_TEMPLATE / "hooks").glob("*.py")
        self._placeholders = {_FOLDER, *(path.read_text(encoding="utf-8") for path in hooks)}
        environment.context_class = CheckedContext
        # Every front door writes a boolean as true or false; Python writes True.
        environment.finalize = _as_text

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the source to compile: files and hooks unchanged, answers as literal text.

        Only the content of a file has a name. Sources without a name are the project's folder, hooks,
        file names (without placeholders in this template) and answers. An answer may equal the folder's
        name or a hook, but cookiecutter renders answers before they are complete.
        """
        if name is not None:
            return source
        literal = _literal(source)
        if source in self._placeholders:
            return f"{{% if '{_COMPLETE}' in cookiecutter %}}{source}{{% else %}}{literal}{{% endif %}}"
        return literal

    def check(self, answers: Mapping[str, object]) -> None:
        """Check the answers so far; once generation starts, all answers must be present.

        Raises FailedHookException with one sentence.
        """
        unasked = [option.name for option in self._options if option.name not in self._settings]
        if unasked:
            raise FailedHookException(
                f"cookiecutter.json does not ask for {unasked[0]}: run make derive in the template."
            )
        try:
            check(self._options, answers, partial=_COMPLETE not in answers)
        except InvalidAnswer as error:
            raise FailedHookException(str(error)) from None
        self._check_settings(answers)
        if _COMPLETE in answers and isinstance(answers, MutableMapping):
            # cookiecutter asks every question; one that does not apply keeps its default.
            answers.update(completed(self._options, answers))
            if _keeps_files():
                answers[_KEEPS_FILES] = True

    def _check_settings(self, answers: Mapping[str, object]) -> None:
        """Refuse changed private values: some of them name files to remove."""
        private = {name for name in self._settings if name.startswith("_")}
        for name in sorted(private.union(_OBEYED) & answers.keys()):
            if answers[name] != self._settings.get(name):
                raise FailedHookException(
                    f"{name} is a setting of this template, not a question, and cannot be given; "
                    f"leave it out (a replay file works only with the version that wrote it)."
                )
