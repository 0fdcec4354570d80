"""Help texts of steps and commands, read from their docstrings without importing them.

A step's module docstring describes the step; the section `Args:` of its `run` describes each option.
"""

import ast
import functools
import importlib.util
import inspect
import pathlib
import re
from typing import NamedTuple

OPTION = re.compile(r" {4}(\w+): (.+)")


class Help(NamedTuple):
    """The description of a step or a command, and one line per option."""

    description: str
    options: dict[str, str]
    # Of the function `run`; None where the module has no such function or is not Python.
    parameters: tuple[str, ...] | None = None

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.description.partition("\n")[0]


@functools.cache
def help_of(module: str) -> Help | None:
    """Return the help of a module such as `pipeline.steps.train_model`, None when there is no such module.

    A module with a syntax error has that as its help: it must not stop the other steps.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin)
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return Help(f"{path.name}:{error.lineno or 1}: {error.msg}.", {})
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    run = functions.get("run")
    description = ast.get_docstring(tree) or ""
    if not run:
        return Help(description, {})
    parameters = tuple(argument.arg for argument in (*run.args.args, *run.args.kwonlyargs))
    return Help(description, arguments(ast.get_docstring(run) or ""), parameters)


def arguments(docstring: str) -> dict[str, str]:
    """Return the texts of a docstring's section `Args:` by name; a text may go on in lines that are further indented.

    The section ends with the first line that is not indented.
    """
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith(" "):
            break
        option = OPTION.fullmatch(line)
        if option:
            name = option[1]
            texts[name] = option[2]
        elif name:
            texts[name] += f" {line.strip()}"
    return texts
