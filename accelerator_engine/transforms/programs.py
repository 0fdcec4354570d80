"""The transforms of other programs: ytt, which runs, and OpenRewrite, which does not."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import Helper
from accelerator_engine.transforms.frame import Files, Scope, Transform
from accelerator_engine.tree import Resource, placed, read_folder, write_folder

_YTT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class OpenRewriteRecipe(Transform):
    """A recipe of OpenRewrite, which this engine refuses to run."""

    recipe: str

    KEYS = frozenset({"recipe", "options"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Raise EvaluationFailed."""
        raise EvaluationFailed(
            f"the OpenRewrite recipe {self.recipe} cannot be run by this engine; use ReplaceText or RewritePath instead"
        )


@dataclass(frozen=True, kw_only=True)
class YTT(Transform):
    """Runs the program `ytt` on all resources, with all variables as data values."""

    extra_args: tuple[Expression, ...] = ()

    KEYS = frozenset({"extraArgs"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run ytt in a temporary folder."""
        program = shutil.which("ytt")
        if program is None:
            raise EvaluationFailed("the transform YTT needs the program ytt (carvel.dev/ytt), which is not on PATH")
        extra = [_checked_argument(expression.text(scope.variables)) for expression in self.extra_args]
        with tempfile.TemporaryDirectory(prefix="accelerator-ytt-") as place:
            try:
                return self._run(program, extra, files, scope, Path(place))
            except (OSError, UnicodeError, TypeError) as error:
                raise EvaluationFailed(f"ytt cannot take these files and values: {error}") from error

    def _run(self, program: str, extra: list[str], files: Files, scope: Scope, place: Path) -> Files:
        (place / "in").mkdir()
        write_folder(files, place / "in")
        values = {name: value for name, value in scope.variables.items() if not isinstance(value, Helper)}
        (place / "values.json").write_text(json.dumps(values, default=str), encoding="utf-8")
        arguments = ["-f", "in", "--data-values-file", "values.json", "--output-files", "out", *extra]
        scope.log.debug(
            f"Wrote values file with json content:   {json.dumps(values, separators=(',', ':'), default=str)}"
        )
        scope.log.info(f"Shelling out to YTT with args: [{', '.join(['ytt', *arguments])}]")
        # ytt reads settings and values from the environment, which may hold a server's secrets.
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
        try:
            completed = subprocess.run(
                [program, *arguments], cwd=place, env=environment, capture_output=True, text=True,
                errors="replace", timeout=_YTT_SECONDS, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise EvaluationFailed(f"ytt took longer than {_YTT_SECONDS} seconds") from error
        if completed.returncode != 0:
            raise EvaluationFailed(f"ytt failed: {' '.join(completed.stderr.split())}")
        return self._result(place / "out", files, scope)

    @staticmethod
    def _result(folder: Path, files: Files, scope: Scope) -> Files:
        """Return the files that ytt wrote; a file from its input keeps its permission bits."""
        inputs = placed(files)
        outputs = read_folder(folder) if folder.is_dir() else []
        new = Resource("", b"", origin=scope.origin)
        return [replace(inputs.get(file.path, new), path=file.path, content=file.content) for file in outputs]

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and all extra arguments."""
        return (*super().expressions(), *self.extra_args)


def _checked_argument(argument: str) -> str:
    """Return the argument. Raises EvaluationFailed when it names a path outside the folder."""
    # A path may follow a short flag, a key or the name of a library: -f/x, a=/x, @library:/x.
    parts = re.split(r"[=:,]", re.sub(r"^-[A-Za-z]", "", argument))
    outside = any(part.startswith(("/", "~")) or ".." in part.split("/") for part in parts)
    if outside or argument.startswith("--dangerous") or "\0" in argument:
        raise EvaluationFailed(f"ytt may not take the argument {argument!r}, which leads outside the project")
    return argument
