"""The Dockerfiles: their base, their contents, their user, and the variables that they set."""

import ast
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BODY, in_body
from dockerfiles import NAMES, named, variables

NOBODY = "10001:10001"
# JupyterHub's servers run as the person, who has a home; in the other images only /tmp is writable.
PERSON, PERSONS_HOME = "1000:100", "/home/jovyan"
# Programs that only the build needs.
MAKERS = {"build-essential", "curl", "gcc", "make", "npm", "python3-pip", "python3-venv", "wget"}


def hadolint(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run hadolint on Dockerfiles."""
    program = Path(sys.executable).parent / "hadolint"
    assert program.exists(), "hadolint is missing in this Python environment: run `make .venv`"
    return subprocess.run([program, "--no-color", *files], capture_output=True, text=True, check=False)


def test_the_list_of_images_is_complete() -> None:
    assert sorted(path.stem for path in BODY.rglob("deploy/images/*.Dockerfile")) == sorted(NAMES)


@pytest.mark.parametrize("image", NAMES)
def test_hadolint_passes(image: str) -> None:
    """The only rule that a Dockerfile ignores is that of unpinned Debian packages."""
    file = in_body(f"deploy/images/{image}.Dockerfile")
    completed = hadolint(file)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    ignored = re.findall(r"hadolint ignore=(\S+)", file.read_text(encoding="utf-8"))
    assert set(ignored) == {"DL3008"}
    assert len(ignored) == sum("apt-get install" in run.text for run in named(image, "RUN"))


def test_hadolint_reports_a_mistake(tmp_path: Path) -> None:
    text = in_body("deploy/images/app.Dockerfile").read_text(encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(text.replace(" --no-install-recommends", ""), encoding="utf-8")
    completed = hadolint(tmp_path / "Dockerfile")
    assert completed.returncode != 0
    assert "DL3015" in completed.stdout


@pytest.mark.parametrize("folder", [BODY.parent, BODY], ids=["repository", "project"])
def test_a_devcontainer_has_the_packages_that_a_project_installs(folder: Path) -> None:
    """It uses the base of the images and a user with sudo, and downloads no feature from a registry."""
    file = folder / ".devcontainer" / "Dockerfile"
    completed = hadolint(file)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE) == [
        argument.text.removeprefix("BASE=") for argument in named(NAMES[0], "ARG")
    ]
    code = (BODY / "local" / "packages.py").read_text(encoding="utf-8")
    needed = re.findall(r'^(?:        |JAVA_PACKAGE = )"([\w-]+)"(?::|$)', code, re.MULTILINE)
    assert "default-jre-headless" in needed
    packages = re.sub(r"\\\n\s*", "", text).partition("apt-get install ")[2].partition(" && ")[0].split()
    assert {*needed, "git", "make", "postgresql-15", "postgresql-plpython3-15", "python3", "sudo"} <= set(packages)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["1000:1000"]
    settings = json.loads((folder / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f"useradd --uid 1000 --create-home --shell /bin/bash {settings['remoteUser']} " in text
    assert settings["build"] == {"dockerfile": "Dockerfile"}
    assert "features" not in settings
    target = settings["postCreateCommand"].removeprefix("make ")
    assert re.search(rf"^{re.escape(target)}:.*##", (folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("image", NAMES)
def test_the_base_is_pinned_and_can_be_replaced(image: str) -> None:
    """All images use one release of one distribution; each stage starts from it or from an earlier stage."""
    (base,) = [parent.text.removeprefix("BASE=") for parent in named(image, "ARG")]
    assert re.fullmatch(r"docker\.io/library/debian:12\.\d+-slim(@sha256:[0-9a-f]{64})?", base)
    assert base == named(NAMES[0], "ARG")[0].text.removeprefix("BASE=")
    stages = {"${BASE}"}
    for parent in named(image, "FROM"):
        assert parent.words[0] in stages, parent.text
        stages.add(parent.stage)


@pytest.mark.parametrize("image", NAMES)
def test_it_runs_as_an_unprivileged_user(image: str) -> None:
    """The user is not root and owns no file of the image."""
    users = named(image, "USER")
    assert [(instruction.stage, instruction.text) for instruction in users] == [
        ("image", PERSON if image == "notebook" else NOBODY)
    ]
    copies = named(image, "COPY", "image")
    assert copies
    assert not any("--chown" in instruction.text or "--chmod" in instruction.text for instruction in copies)


@pytest.mark.parametrize("image", NAMES)
def test_it_holds_no_build_tools(image: str) -> None:
    """It holds no installers, package lists or caches: the last stage copies the results of the others."""
    assert not named(image, "RUN", "image")
    (parent,) = named(image, "FROM", "image")
    for run in named(image, "RUN"):
        installs = "apt-get install" in run.text
        assert "rm -rf /var/lib/apt/lists/*" in run.text or not installs
        assert not MAKERS & set(run.words) or run.stage != parent.words[0], run.text


@pytest.mark.parametrize("image", NAMES)
def test_its_packages_are_locked(image: str) -> None:
    """Packages that are not Debian's come from a lock file with hashes, and no file comes from a URL."""
    assert not named(image, "ADD")
    text = in_body(f"deploy/images/{image}.Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"\w://|--(extra-)?index-url|--registry|--find-links|--trusted-host|_TOKEN|PASSWORD", text)
    fetching = [run.text for run in named(image, "RUN") if re.search(r"\b(pip|npm) (?!\|)", run.text)]
    pips = [text for text in fetching if "install --no-cache-dir --no-deps --require-hashes --compile" in text]
    assert len(pips) == 1
    for command in re.findall(r"npm \w+ --.*?&&", " ".join(fetching)):
        assert command.startswith("npm ci --prefix /build --ignore-scripts ")


def test_the_pipeline_image_names_the_installed_lock() -> None:
    """A step compares that lock with the lock of its checkout."""
    (copy,) = named("pipeline", "COPY", "environment")
    source, place = copy.words
    assert (source, place) == ("requirements/pipeline.txt", variables("pipeline")["ENVIRONMENT_LOCK"])
    (install,) = [
        instruction for instruction in named("pipeline", "RUN", "environment") if "--require-hashes" in instruction.text
    ]
    assert f"--requirement {place} " in install.text
    folder = str(Path(place).parent)
    assert f"--from=environment {folder} {folder}" in [
        instruction.text for instruction in named("pipeline", "COPY", "image")
    ]


def test_the_notebook_image_can_run_the_steps() -> None:
    """Its lock contains the pipeline's, which it names for the steps; it starts the server that JupyterHub expects."""
    (copy,) = named("notebook", "COPY", "environment")
    assert copy.words == ["requirements/notebook.txt", "requirements/pipeline.txt", "/opt/environment/"]
    assert variables("notebook")["ENVIRONMENT_LOCK"] == "/opt/environment/pipeline.txt"
    (install,) = [
        instruction for instruction in named("notebook", "RUN", "environment") if "--require-hashes" in instruction.text
    ]
    assert "--requirement /opt/environment/notebook.txt " in install.text
    (person,) = named("notebook", "RUN", "system")
    assert f"useradd --uid 1000 --gid users --home-dir {PERSONS_HOME} --create-home " in person.text
    assert " git " in person.text
    assert [instruction.text for instruction in named("notebook", "CMD", "image")] == ['["jupyterhub-singleuser"]']


@pytest.mark.parametrize("image", ["notebook", "pipeline"])
def test_the_variable_is_the_one_that_the_steps_read(image: str) -> None:
    """Only the image and pipeline/lock_file.py know its name."""
    module = ast.parse(in_body("pipeline/lock_file.py").read_text(encoding="utf-8"))
    assert constants(module)["LOCK"] in variables(image)


def constants(module: ast.Module) -> dict[str, object]:
    """Return the literals that a module assigns to names."""
    values = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def test_liquibase_is_the_same_as_on_a_laptop() -> None:
    """Image and laptop install from the same lock file and keep the same files."""
    local = constants(ast.parse((BODY / "local" / "environments.py").read_text(encoding="utf-8")))
    (copy,) = named("pipeline", "COPY", "liquibase")
    assert copy.words[:-1] == ["local/package.json", "local/package-lock.json"]
    (run,) = [instruction.text for instruction in named("pipeline", "RUN", "liquibase") if "npm ci" in instruction.text]
    libraries, jars = run.split("find internal/lib")
    assert sorted(re.findall(r"! -name (\S+)", libraries)) == sorted(local["LIQUIBASE_FILES"])
    assert sorted(re.findall(r"! -name '(\S+)\*'", jars)) == sorted(local["JARS"])


def test_the_steps_find_their_programs() -> None:
    """The environment's Python precedes the system's, and Java is installed for Liquibase."""
    path = variables("pipeline")["PATH"].split(":")
    assert path[:2] == ["/opt/environment/bin", "/opt/liquibase"]
    packages = " ".join(run.text for run in named("pipeline", "RUN", "system"))
    for package in ("ca-certificates", "default-jre-headless", "git", "python3"):
        assert f" {package} " in packages


@pytest.mark.parametrize("image", NAMES)
def test_a_read_only_file_system_suffices(image: str) -> None:
    """Python writes no bytecode files, and the home folder is writable."""
    environment = variables(image)
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["HOME"] == (PERSONS_HOME if image == "notebook" else "/tmp")  # noqa: S108 - the container's own


def test_the_inference_database_is_debians_postgresql() -> None:
    """PL/Python finds the environment's packages; the image holds no private key."""
    (run,) = named("inference-db", "RUN", "system")
    assert re.search(r" postgresql-15 postgresql-plpython3-15 ", run.text)
    assert "create_main_cluster = false" in run.text
    assert "/etc/ssl/private/ssl-cert-snakeoil.key" in run.text.partition("rm -rf")[2]
    environment = variables("inference-db")
    assert environment["PATH"].startswith("/usr/lib/postgresql/15/bin:")
    assert environment["PYTHONEXECUTABLE"] == "/opt/environment/bin/python"
    (volume,) = named("inference-db", "VOLUME")
    assert environment["PGDATA"].startswith(f"{ast.literal_eval(volume.text)[0]}/")
    # On SIGTERM PostgreSQL would wait for the last client to disconnect.
    assert [instruction.text for instruction in named("inference-db", "STOPSIGNAL")] == ["SIGINT"]
    assert not environment.keys() & {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}
