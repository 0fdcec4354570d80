"""Lock files: uv writes requirements/ROLE.txt, all packages with their hashes, from requirements/ROLE.in.

uv resolves for every system and Python at once, which pip cannot do. It does not read pip's settings, where people
name their registry, so this module passes them on.
"""

import ast
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from local import environments, installers, startup
from local.errors import LocalError
from local.processes import caller_environment
from local.progress import Progress, say
from local.state import PROJECT

# The role of uv itself.
ROLE = "lock"
REQUIREMENTS = PROJECT / "requirements"
OPTIONS = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header",
    "--no-emit-index-url", "--overrides", "overrides.txt",
)  # fmt: skip
# A name, extras and a version, but no option, path or address.
PACKAGE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[[A-Za-z0-9._,-]+\])?(?:[=<>!~][^\s;#]*)?"
)
INCLUDED = re.compile(r"^-r (\S+)\.in$", re.MULTILINE)
# uv's variables for pip's settings; uv takes the first index that has a package.
VARIABLES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE",
             "trusted-host": "UV_INSECURE_HOST", "proxy": "ALL_PROXY"}  # fmt: skip


def lock(packages: Sequence[str], role: str) -> None:
    """Add the packages to a role and write its lock file, and those of the roles that include it.

    Without packages, write every lock file. Nothing changes unless all can be written. Raises LocalError.
    """
    if role not in roles():
        raise LocalError(f"there is no role {role}; allowed are {', '.join(roles())}")
    changed = added((REQUIREMENTS / f"{role}.in").read_text(encoding="utf-8"), packages)
    startup.install([ROLE], databases=False, liquibase=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for path in REQUIREMENTS.iterdir():
            shutil.copy(path, folder)
        (folder / f"{role}.in").write_text(changed, encoding="utf-8")
        written = including(role if packages else "", folder)
        progress = Progress()
        for name in written:
            with progress.shown(), progress.job(f"requirements/{name}.txt", lambda: "resolving"):
                _compile(name, folder)
        for name in written:
            _report(name, folder)
        for file in (f"{role}.in", *(f"{name}.txt" for name in written)):
            shutil.copy(folder / file, REQUIREMENTS)


def roles() -> list[str]:
    """Return the roles that have requirements."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.in"))


def added(text: str, packages: Sequence[str]) -> str:
    """Return requirements with the packages, each in place of the line that names the same one. Raises LocalError."""
    lines = text.splitlines()
    for package in packages:
        match = PACKAGE.fullmatch(package)
        if not match:
            raise LocalError(
                f"{package!r} is not a package: write its name as pip knows it, such as pandas or 'pandas==2.3.3'"
            )
        same = [number for number, line in enumerate(lines) if _name(line) == _normal(match["name"])]
        place = same[0] if same else len(lines)
        lines[place : place + 1] = [package]
    return "\n".join([*lines, ""])


def _name(line: str) -> str:
    """Return the normal form of the package's name in a line of requirements, empty when there is none."""
    match = PACKAGE.match(line)
    return _normal(match["name"]) if match else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def including(role: str, folder: pathlib.Path) -> list[str]:
    """Return the role and those that include it, all roles where it is empty; each after those that it includes."""
    reached = {path.stem: set(_reached(path.stem, folder)) for path in sorted(folder.glob("*.in"))}
    chosen = [name for name, names in reached.items() if not role or role in names]
    return sorted(chosen, key=lambda name: len(reached[name]))


def _reached(role: str, folder: pathlib.Path) -> Iterator[str]:
    yield role
    for name in INCLUDED.findall((folder / f"{role}.in").read_text(encoding="utf-8")):
        yield from _reached(name, folder)


def _compile(role: str, folder: pathlib.Path) -> None:
    environment = environments.environment(ROLE)
    python = str(environment / "bin" / "python")
    variables = caller_environment()
    shown = installers.run([python, "-m", "pip", "config", "list"], "pip's settings cannot be read", variables)
    settings = pip_settings(shown)
    command = [str(environment / "bin" / "uv"), *OPTIONS, *uv_options(settings), "--python", python]
    variables = {**uv_variables(settings), "UV_PYTHON_DOWNLOADS": "never", **variables}
    failure = f"requirements/{role}.in cannot be locked, and nothing was changed"
    installers.run([*command, "--output-file", f"{role}.txt", f"{role}.in"], failure, variables, folder)


def pip_settings(shown: str) -> dict[str, str]:
    """Return the settings that `pip config list` shows: of variables, else for `pip install`, else for all commands."""
    settings: dict[str, str] = {}
    lines = [line.partition("=") for line in shown.splitlines()]
    for section in ("global.", "install.", ":env:."):
        for key, _, value in lines:
            if key.startswith(section):
                settings[key.removeprefix(section)] = str(ast.literal_eval(value))
    return settings


def uv_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for pip's settings."""
    return {variable: " ".join(settings[name].split()) for name, variable in VARIABLES.items() if settings.get(name)}


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """Return uv's options for pip's settings. uv refuses a folder that does not exist, pip only warns."""
    folders = [place for place in settings.get("find-links", "").split() if "://" in place or os.path.exists(place)]
    no_index = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
    return [*(f"--find-links={place}" for place in folders), *(["--no-index"] if no_index else [])]


def _report(role: str, folder: pathlib.Path) -> None:
    before, after = (pinned(path / f"{role}.txt") for path in (REQUIREMENTS, folder))
    changes = [f"{name} {version}" for name, version in after.items() if before.get(name) != version]
    changes += [f"without {name}" for name in before if name not in after]
    say(f"requirements/{role}.txt: {', '.join(changes) or 'nothing changed'}")


def pinned(lock_file: pathlib.Path) -> dict[str, str]:
    """Return the versions in a lock file by package."""
    text = lock_file.read_text(encoding="utf-8") if lock_file.exists() else ""
    return dict(re.findall(r"^([A-Za-z0-9][^\s=\[]*)(?:\[\S*\])?==(\S+)", text, re.MULTILINE))
