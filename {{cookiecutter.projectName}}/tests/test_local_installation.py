"""What is installed for the local servers, and what is said meanwhile."""

import concurrent.futures
import io
import os
import pathlib
import sys
import threading

import pytest

from local import environments, installers, packages, state
from local.errors import LocalError
from local.progress import CLEAR, Progress
from local.state import lock


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class TestProgress:
    @pytest.fixture
    def seconds(self) -> list[float]:
        """The time, which a test changes."""
        return [100.0]

    def progress(self, stream: io.StringIO, seconds: list[float]) -> Progress:
        return Progress(stream, lambda: seconds[0])

    def test_one_line_for_all_jobs(self, seconds):
        progress = self.progress(io.StringIO(), seconds)
        with progress.job("pipeline", lambda: "installed 57 of 143 packages"), progress.job("Liquibase", lambda: "npm"):
            seconds[0] += 12.4
            assert progress.line() == "12 s  pipeline: installed 57 of 143 packages; Liquibase: npm"
        assert progress.line() == ""

    def test_a_new_line_each_time_where_there_is_no_terminal(self, seconds):
        stream = io.StringIO()
        progress = self.progress(stream, seconds)
        with progress.job("mlflow", lambda: "starting"):
            for _ in range(2):
                seconds[0] += 5
                progress.write()
        progress.write()
        assert stream.getvalue() == "5 s  mlflow: starting\n10 s  mlflow: starting\n"

    def test_a_terminal_shows_one_line_no_longer_than_it_is_wide(self, monkeypatch, seconds):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "20")
        stream = Terminal()
        progress = self.progress(stream, seconds)
        with progress.job("pipeline", lambda: "installed 57 of 143 packages"):
            progress.write()
        assert stream.getvalue() == f"{CLEAR}0 s  pipeline: inst"

    def test_a_terminal_that_cannot_rewrite_a_line_gets_new_ones(self, monkeypatch, seconds):
        monkeypatch.setenv("TERM", "dumb")
        stream = Terminal()
        progress = self.progress(stream, seconds)
        with progress.job("mlflow", lambda: "starting"):
            progress.write()
        assert stream.getvalue() == "0 s  mlflow: starting\n"

    def test_the_line_is_repeated_until_the_end(self, monkeypatch):
        monkeypatch.setattr("local.progress.SECONDS_BETWEEN_LINES", 0.001)
        stream, calls, twice = io.StringIO(), [], threading.Event()

        def report() -> str:
            calls.append(1)
            if len(calls) > 1:
                twice.set()
            return "starting"

        progress = Progress(stream)
        with progress.shown(), progress.job("mlflow", report):
            assert twice.wait(30)
        lines = stream.getvalue().splitlines()
        assert len(lines) >= 2
        assert all(line.endswith("mlflow: starting") for line in lines)
        assert threading.active_count() == 1


class TestInstallers:
    LOCK_FILE = """\
flatbuffers==25.12.19 \\
    --hash=sha256:00
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:00
    # via onnxruntime
"""

    def test_pip(self, tmp_path):
        (tmp_path / "pip-23.0.1.dist-info").mkdir()
        pip = installers.PipProgress(self.LOCK_FILE, tmp_path)
        assert pip.report() == "creating the environment"
        pip.read("Ignoring numpy: markers 'python_full_version >= \"3.12\"' don't match your environment")
        pip.read("Collecting flatbuffers==25.12.19 (from -r requirements.txt (line 1))")
        assert pip.report() == "downloading package 1 of 2, flatbuffers"
        pip.read("  Using cached flatbuffers-25.12.19-py2.py3-none-any.whl (26 kB)")
        pip.read("Collecting numpy==2.4.6")
        pip.read("  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.9 MB)")
        assert pip.report() == "downloading package 2 of 2, numpy (16.9 MB)"
        pip.read("Installing collected packages: flatbuffers, numpy")
        assert pip.report() == "installed 0 of 2 packages"
        (tmp_path / "numpy-2.4.6.dist-info").mkdir()
        assert pip.report() == "installed 1 of 2 packages"

    @pytest.mark.parametrize("role", environments.ROLES)
    def test_pip_counts_the_packages_of_a_lock_file(self, tmp_path, role):
        text = (environments.PROJECT / "requirements" / f"{role}.txt").read_text()
        pip = installers.PipProgress(text, tmp_path)
        pip.read("Collecting numpy")
        packages_of_lock_file = sum("==" in line and line[0] not in " #" for line in text.splitlines() if line)
        assert pip.report() == f"downloading package 1 of {packages_of_lock_file}, numpy"

    def test_apt(self):
        apt = installers.AptProgress()
        assert apt.report() == "preparing"
        apt.read("dlstatus:3:45.2381:Retrieving file 3 of 8 (2min 4s remaining)")
        assert apt.report() == "45 %, Retrieving file 3 of 8 (2min 4s remaining)"
        apt.read("Preconfiguring packages ...")
        apt.read("pmstatus:libpq5:amd64:57.1429:Unpacking libpq5:amd64")
        assert apt.report() == "57 %, Unpacking libpq5:amd64"

    def test_lines_are_read_as_they_are_printed(self):
        lines: list[str] = []
        program = "import sys; print('one'); print('two', file=sys.stderr)"
        command = [sys.executable, "-u", "-c", program]
        assert installers.run(command, "it failed", os.environ, read=lines.append) == "one\ntwo\n"
        assert lines == ["one", "two"]

    def test_a_failure_shows_the_end_of_the_output(self):
        program = "print('no such package'); print('dlstatus:1:0.0000:Retrieving file 1 of 3'); raise SystemExit(3)"
        command = [sys.executable, "-u", "-c", program]
        with pytest.raises(LocalError) as raised:
            installers.run(command, "numpy cannot be installed", os.environ)
        sentence = f"numpy cannot be installed; the end of the output of `{sys.executable}`:"
        assert str(raised.value).splitlines() == [sentence, "no such package"]

    def test_a_program_that_is_missing(self):
        with pytest.raises(LocalError, match="no-such-program is not there: run `python3 -m local install`"):
            installers.run(["no-such-program"], "", os.environ)


class TestEnvironments:
    def test_cache(self, monkeypatch, tmp_path):
        monkeypatch.delenv("IN_DATABASE_ML_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert environments.cache() == tmp_path / "in-database-ml"
        monkeypatch.setenv("IN_DATABASE_ML_CACHE", str(tmp_path / "mine"))
        assert environments.cache() == tmp_path / "mine"

    @pytest.fixture
    def cache(self, monkeypatch, tmp_path):
        """An empty cache."""
        monkeypatch.setenv("IN_DATABASE_ML_CACHE", str(tmp_path))
        environments.environment.cache_clear()
        yield tmp_path
        environments.environment.cache_clear()

    def test_a_half_made_environment_is_not_used(self, tmp_path):
        folder = tmp_path / "environments" / "training-db"
        (folder / "bin").mkdir(parents=True)
        existed = []

        def make(path: pathlib.Path, progress: Progress) -> None:
            existed.append(path.exists())
            path.mkdir()

        for _ in range(2):
            environments._build(environments.Build(folder, "test", make), Progress())
        assert existed == [False]
        assert environments.is_complete(folder)

    def test_a_lock_removed_by_its_holder_is_not_shared(self, tmp_path):
        path = tmp_path / "lock"
        descriptor = state.lock(path, "")
        path.unlink()
        os.close(descriptor)
        again = state.lock(path, "")
        assert os.path.samestat(os.fstat(again), path.stat())
        os.close(again)

    @pytest.fixture
    def fails(self, monkeypatch, cache):
        """Of the environments only that of the app cannot be made."""

        def make(role: str, folder: pathlib.Path, progress: Progress) -> None:
            if role == "app":
                raise LocalError("no network")
            folder.mkdir()

        monkeypatch.setattr(environments, "_build_environment", make)

    def test_an_optional_environment_that_fails_is_reported(self, fails, capsys):
        environments.install(["pipeline"], with_liquibase=False, optional=["app"])
        assert environments.is_complete(environments.environment("pipeline"))
        assert not environments.environment("app").exists()
        assert "Python environment app: not installed, the rest goes on;" in capsys.readouterr().err

    def test_a_required_environment_that_fails_ends_the_installation(self, fails):
        with pytest.raises(LocalError, match="no network"):
            environments.install(["pipeline", "app"], with_liquibase=False)


class TestPackages:
    def install(self, root: pathlib.Path, version: int, plpython: bool) -> None:
        files = [f"usr/lib/postgresql/{version}/bin/postgres"]
        if plpython:
            files += [f"usr/lib/postgresql/{version}/lib/plpython3.so"]
            files += [f"usr/share/postgresql/{version}/extension/plpython3u.control"]
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

    def test_newest_with_plpython(self, tmp_path):
        for version, plpython in ((13, True), (15, True), (16, False)):
            self.install(tmp_path, version, plpython)
        assert packages.installed_postgresql(tmp_path) == 15
        assert packages.postgresql_packages(tmp_path) == []

    def test_a_client_is_no_server(self, tmp_path):
        (tmp_path / "usr/lib/postgresql/16/bin").mkdir(parents=True)
        assert packages.installed_postgresql(tmp_path) is None

    def test_plpython_for_the_server_that_is_there(self, tmp_path):
        self.install(tmp_path, 16, plpython=False)
        assert packages.postgresql_packages(tmp_path, lambda name: True, lambda: 15) == ["postgresql-plpython3-16"]

    def test_the_distributions_version(self, tmp_path):
        self.install(tmp_path, 12, plpython=False)
        wanted = ["postgresql-15", "postgresql-plpython3-15"]
        assert packages.postgresql_packages(tmp_path, lambda name: False, lambda: 15) == wanted

    def test_no_package_lists(self, tmp_path):
        with pytest.raises(LocalError, match="apt-get update"):
            packages.postgresql_packages(tmp_path, lambda name: False, lambda: None)

    @pytest.fixture
    def apt(self, monkeypatch, tmp_path):
        """Nothing is installed, and apt installs everything."""
        calls: list[tuple[str, ...]] = []
        missing = ["python3-venv", "npm"]

        def run(*command: str) -> None:
            calls.append(command)
            if command[0] == "install":
                missing.clear()

        monkeypatch.setattr(packages, "_apt", run)
        monkeypatch.setattr(packages, "tools_missing", lambda *wanted: list(missing))
        monkeypatch.setattr(packages, "installed_postgresql", lambda: None if missing else 15)
        monkeypatch.setattr(packages, "postgresql_packages", lambda: ["postgresql-15", "postgresql-plpython3-15"])
        monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(packages, "LOCK", tmp_path / "lock")
        return calls

    def test_root_installs_without_a_cluster_of_the_systems(self, apt, monkeypatch, tmp_path):
        setting = tmp_path / "createcluster.d" / "setting.conf"
        seen = []
        monkeypatch.setattr(packages, "NO_MAIN_CLUSTER", setting)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        inner = packages._apt
        monkeypatch.setattr(packages, "_apt", lambda *command: (seen.append(setting.exists()), inner(*command)))
        packages.install(databases=True, java=True, npm=True)
        assert [command[0] for command in apt] == ["update", "install"]
        assert apt[1][-4:] == ("postgresql-15", "postgresql-plpython3-15", "python3-venv", "npm")
        assert seen == [False, True]
        assert not setting.exists()

    def test_a_second_installation_waits_and_installs_nothing_again(self, apt, monkeypatch):
        """Two projects may be started at once on a new machine, and apt-get refuses to run twice."""
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(packages, "NO_MAIN_CLUSTER", packages.LOCK.with_name("setting.conf"))
        first = lock(packages.LOCK, "")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            second = pool.submit(packages.install, databases=True, java=True, npm=True)
            assert concurrent.futures.wait([second], timeout=0.5).not_done
            packages._install_as_root(["python3-venv", "npm"], server=True)
            os.close(first)
            second.result(timeout=30)
        assert [command[0] for command in apt] == ["update", "install"]

    def test_others_are_told_the_command(self, apt, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(LocalError, match=r"`sudo apt-get install -y --no-install-recommends postgresql-15 .* npm`"):
            packages.install(databases=True, java=True, npm=True)
        assert apt == []

    def test_nothing_missing_calls_nothing(self, monkeypatch):
        monkeypatch.setattr(packages, "_apt", lambda *command: pytest.fail("apt was called"))
        monkeypatch.setattr(packages, "tools_missing", lambda *wanted: [])
        monkeypatch.setattr(packages, "installed_postgresql", lambda: 15)
        packages.install(databases=True, java=True, npm=True)

    @pytest.mark.parametrize(
        ("text", "version"), [('JAVA_VERSION="17.0.15"', 17), ('JAVA_VERSION="1.8.0_402"', 1), ("", 0)]
    )
    def test_java_version(self, monkeypatch, tmp_path, text, version):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "java").touch(mode=0o755)
        (tmp_path / "release").write_text(text)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        assert packages.java_version() == version
        if version < packages.OLDEST_JAVA:
            with pytest.raises(LocalError, match="JAVA_HOME"):
                packages.tools_missing(databases=True, java=True, npm=True)
