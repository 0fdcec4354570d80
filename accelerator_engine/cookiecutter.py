"""The check of answers in a cookiecutter run, before it writes a file.

cookiecutter creates the project's folder before it runs hooks, so a hook is too late: with the name
`../evil` the folder already exists. Before that it renders the default of each question and the name
of the folder. This extension therefore

* checks the answers when cookiecutter renders something, as soon as all are given, and
* keeps the text of an answer unchanged. cookiecutter renders answers as templates: `{{ 7*7 }}`
  becomes the valid number 49, and Jinja may drop a line break at the end.

After questions it leaves the right answers for `cookiecutter --replay`, which asks for the others.

For a FailedHookException cookiecutter prints the text without a traceback, and exits with 1.

Each environment reads the files again, because `cruft update` checks out two versions of the
template within one process.
"""

import json
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import click
from cookiecutter import replay
from cookiecutter.config import get_user_config
from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension
from jinja2.runtime import Context

from accelerator_engine.options import completed, mistakes, read_options

_TEMPLATE = Path(__file__).resolve().parents[1]
_FOLDER = "{{cookiecutter.projectName}}"

# cookiecutter and cruft add this key after the last question and before the first file.
_COMPLETE = "_template"

# Tells the hook after generation whether files that are there stay.
_KEEPS_FILES = "_keepsFiles"

REPLAY_HINT = "With --replay, cookiecutter asks for these answers again and keeps the others."

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


def keep_for_replay(answers: Mapping[str, object], right: Collection[str]) -> bool:
    """Write the right answers of a person to cookiecutter's replay file; return False if nobody was asked.

    A replay asks for the answers that the file lacks. The file also lacks the settings, so that the template provides
    them.
    """
    context = click.get_current_context(silent=True)
    parameters = context.params if context else {}
    # Other tools, such as cruft, have no replay.
    if "replay" not in parameters or parameters["no_input"] or parameters["replay_file"]:
        return False
    settings = get_user_config(parameters["config_file"], parameters["default_config"])
    template = Path(str(answers["_repo_dir"])).absolute().name
    replay.dump(settings["replay_dir"], template, {"cookiecutter": {name: answers[name] for name in right}})
    return True


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
        """Check the settings, and the answers once all are given. Raises FailedHookException."""
        unasked = [option.name for option in self._options if option.name not in self._settings]
        if unasked:
            raise FailedHookException(
                f"cookiecutter.json does not ask for {unasked[0]}: run make derive in the template."
            )
        if _COMPLETE in answers:
            self._check_answers(answers)
        self._check_settings(answers)
        if _COMPLETE in answers and isinstance(answers, MutableMapping):
            # cookiecutter asks every question; one that does not apply keeps its default.
            answers.update(completed(self._options, answers))
            if _keeps_files():
                answers[_KEEPS_FILES] = True

    def _check_answers(self, answers: Mapping[str, object]) -> None:
        """Raise FailedHookException with one sentence per wrong answer."""
        wrong = mistakes(self._options, answers)
        if not wrong:
            return
        lines = [str(error) for error in wrong.values()]
        right = [option.name for option in self._options if option.name not in wrong]
        if keep_for_replay(answers, right):
            lines.append(REPLAY_HINT)
        raise FailedHookException("\n".join(lines))

    def _check_settings(self, answers: Mapping[str, object]) -> None:
        """Refuse changed private values: some of them name files to remove."""
        private = {name for name in self._settings if name.startswith("_")}
        for name in sorted(private.union(_OBEYED) & answers.keys()):
            if answers[name] != self._settings.get(name):
                raise FailedHookException(
                    f"{name} is a setting of this template, not a question, and cannot be given; "
                    f"leave it out (a replay file works only with the version that wrote it)."
                )
