"""The person's own code, `model.py` and `dataset.py`, checked without running it.

Needs only the standard library: a new machine has no environment yet.
"""

import ast
import importlib.util
import pathlib
import symtable
import warnings
from typing import NamedTuple

from pipeline.errors import StepError

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The functions that the pipeline calls.
FUNCTIONS = {"model": ("build_model", "build_optimizer"), "dataset": ("load",)}


class Code(NamedTuple):
    """A file's syntax tree, and the names that it uses at its top level."""

    tree: ast.Module
    symbols: list[symtable.Symbol]


def exists(module: str) -> bool:
    """Return whether the project has the module, as a file or as a package."""
    return (ROOT / f"{module}.py").exists() or _is_package(module)


def require(module: str) -> None:
    """Raise StepError unless the file is Python code that has the functions. A package is not examined."""
    if _is_package(module):
        return
    code = _parsed(module)
    imports_everything = any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(code.tree)
    )
    names = {symbol.get_name() for symbol in code.symbols if symbol.is_assigned() or symbol.is_imported()}
    if imports_everything or "__getattr__" in names:
        return
    for function in FUNCTIONS[module]:
        if function not in names:
            raise StepError(no_function(module, function))


def require_imports(module: str) -> None:
    """Raise StepError when a package that the file imports at its beginning is not installed.

    The other statements may change where packages are found, so imports after them are not examined.
    """
    if _is_package(module):
        return
    for node in _parsed(module).tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module and not node.level else []
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        else:
            return
        for name in names:
            if is_missing(name):
                package = name.partition(".")[0]
                error = f"ModuleNotFoundError: No module named {package!r} ({module}.py, line {node.lineno})"
                raise StepError(f"{not_imported(module, error)}; {package_hint(package)}")


def is_missing(name: str) -> bool:
    """Return whether the package of a module's dotted name is not installed, and not in the project either."""
    package = name.partition(".")[0]
    if exists(package):
        return False
    try:
        return importlib.util.find_spec(package) is None
    except ValueError:  # a module that was not imported from a file, such as __main__
        return False


def no_function(module: str, function: str) -> str:
    """Return the message for a function that the file lacks."""
    return f"{module}.py has no function {function}"


def not_imported(module: str, error: str) -> str:
    """Return the message for a file that raises an error when it is imported."""
    return f"{module}.py cannot be imported: {error}"


def package_hint(package: str) -> str:
    """Return the command that adds a missing package."""
    return f"add the package of {package} with `make lock ADD=NAME`, NAME as in `pip install NAME`"


def syntax_error(error: SyntaxError) -> str:
    """Return a syntax error in one line, with its file and line."""
    place = f" ({pathlib.Path(error.filename).name}, line {error.lineno})" if error.filename and error.lineno else ""
    return f"{type(error).__name__}: {error.msg}{place}"


def _is_package(module: str) -> bool:
    return (ROOT / module / "__init__.py").exists()


def _parsed(module: str) -> Code:
    """Return the syntax tree and the names of the file. Raises StepError."""
    file = f"{module}.py"
    try:
        source = (ROOT / file).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python prints them when it imports the file
            compile(source, file, "exec", dont_inherit=True)
            table = symtable.symtable(importlib.util.decode_source(source), file, "exec")
            return Code(ast.parse(source), table.get_symbols())
    except OSError as error:
        raise StepError(f"{file} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise StepError(not_imported(module, syntax_error(error))) from error
    except ValueError as error:  # a null byte, before Python 3.11.4
        raise StepError(not_imported(module, f"SyntaxError: {error}")) from error
