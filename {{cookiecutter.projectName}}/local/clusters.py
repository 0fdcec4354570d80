"""Private PostgreSQL clusters: loopback and TLS only, SCRAM passwords, PL/Python with a role's environment.

Only `data` and `home` belong to the server user; settings, access rules and log lie beside them, where a
function inside the database cannot change them.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence

from local import certificates, packages
from local.errors import LocalError
from local.processes import as_server_account, clean_environment, command_line
from local.servers import SECONDS_TO_STOP, Server, first_number
from local.state import State, make_folder, write

SUPERUSER = "deployer"
UNFINISHED = "data.unfinished-"
SETTINGS = """\
listen_addresses = 'localhost'
port = {port}
cluster_name = '{title}'
unix_socket_directories = ''
data_directory = '{folder}/data'
hba_file = '{folder}/pg_hba.conf'
max_connections = 100
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
ssl_min_protocol_version = 'TLSv1.2'
log_destination = 'stderr'
logging_collector = off
log_statement = 'none'
# 'none' names no library, so PostgreSQL never loads its query compiler: it and TensorFlow contain different releases of
# LLVM, and a process with both crashes.
jit_provider = 'none'
log_line_prefix = '%m [%p] %q%u@%d %a '
datestyle = 'iso, mdy'
default_text_search_config = 'pg_catalog.simple'
"""
ACCESS = """\
hostssl all all 127.0.0.1/32 scram-sha-256
hostssl all all ::1/128 scram-sha-256
"""
# Passwords come by standard input; a statement that fails is not written to the log here. The locks make
# this wait for what a killed start has left running.
SET_UP = r"""
\set ON_ERROR_STOP on
SET log_min_error_statement = panic;
SELECT pg_advisory_lock(1);
\set role '{role}'
\set database '{database}'
\set password '{password}'
SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" PASSWORD :'password';
SELECT format('CREATE DATABASE %I', :'database')
WHERE NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = :'database') \gexec
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"role";
\connect :"database"
SELECT pg_advisory_lock(1);
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(int), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
FROM PUBLIC;
"""


class Cluster(Server):
    """A cluster with one database of the same name, its superuser `deployer` and one login role."""

    # At once, also for a session that computes in PL/Python; PostgreSQL repairs itself at the next start.
    last_word = signal.SIGQUIT
    # The SQL that psql runs once the server runs.
    set_up = SET_UP + "CREATE EXTENSION IF NOT EXISTS plpython3u;\n"

    def __init__(self, binding: str, name: str, state: State, environment: pathlib.Path | None) -> None:
        super().__init__(name, state, environment)
        self.binding = binding
        self.role = binding.removeprefix(f"{name}-")
        self._config = f"config_file={self.folder}/postgresql.conf"
        self._marker = self.folder / "set-up"
        # Stands in the title of each process but the postmaster, whose command line names the settings.
        self._title = f"{name}-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]}"

    def is_one(self, command: list[str]) -> bool:
        """The postmaster, one of its children, whose titles begin with the cluster's name, or an initdb."""
        title = f"postgres: {self._title}: "
        return self._is_postmaster(command) or command[0].startswith(title) or self._is_initdb(command)

    def _is_postmaster(self, command: list[str]) -> bool:
        return command[0].endswith("/postgres") and self._config in command

    def _is_initdb(self, command: list[str]) -> bool:
        """Whether it is left over from a start that was killed."""
        return command[0].endswith("/initdb") and command[-1].startswith(f"--pgdata={self.folder}/{UNFINISHED}")

    def main_process(self) -> int | None:
        """Return the postmaster's id, if the process that postmaster.pid names is it."""
        pid = first_number(self.data / "postmaster.pid")
        return pid if pid and self._is_postmaster(command_line(pid)) else None

    def answers(self) -> bool:
        """Whether pg_isready says yes."""
        where = clean_environment(PGHOST="localhost", PGPORT=str(self.port), PGUSER=SUPERUSER)
        return not subprocess.run([self._program("pg_isready"), "-q"], env=where).returncode

    def prepare(self) -> None:
        """Make the data folder when there is none, and write the settings anew. Raises LocalError."""
        certificates.make_server_certificate(self.state.folder / "authority", self.folder)
        folder = str(self.folder).replace("'", "''")
        settings = SETTINGS.format(port=self.port, title=self._title, folder=folder)
        write(self.folder / "postgresql.conf", settings, 0o644)
        write(self.folder / "pg_hba.conf", ACCESS, 0o644)
        if not self.data.exists():
            self._initialise()
        # No process of this cluster is left: its number may by now be another program's.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self) -> None:
        """Run initdb in a folder that gets its name when it is complete. Raises LocalError."""
        for left in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
        password = self.folder / "password"
        self._marker.unlink(missing_ok=True)
        make_folder(unfinished, 0o700, server=True)
        write(password, self.state.password(f"{self.name}-{SUPERUSER}"), server=True)
        command = [
            self._program("initdb"), f"--username={SUPERUSER}", f"--pwfile={password}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-instructions", "--no-sync",
            f"--pgdata={unfinished}",
        ]  # fmt: skip
        try:
            completed = subprocess.run(
                command, cwd="/", env=clean_environment(HOME=str(self.home)), capture_output=True, text=True,
                **as_server_account(),
            )  # fmt: skip
        finally:
            password.unlink()
        if completed.returncode:
            raise LocalError(f"initdb cannot make {self.data}: {completed.stderr.strip()}")
        unfinished.rename(self.data)

    def command(self) -> Sequence[str]:
        """Return the postmaster's command line."""
        return [self._program("postgres"), "-D", str(self.data), "-c", self._config]

    def variables(self) -> dict[str, str]:
        """Return the postmaster's environment; PYTHONEXECUTABLE makes PL/Python use the role's packages."""
        return clean_environment(
            HOME=str(self.home),
            PYTHONEXECUTABLE=f"{self.environment}/bin/python",
            PYTHONNOUSERSITE="1",
            TF_CPP_MIN_LOG_LEVEL="3",
            CUDA_VISIBLE_DEVICES="-1",
        )

    def finish(self) -> None:
        """Make database and login role, and what the database needs, once. Raises LocalError with psql's reason."""
        if self._marker.exists():
            return
        values = {"role": self.role, "database": self.name, "password": self.state.password(self.binding)}
        script = self.set_up
        for name, value in values.items():
            script = script.replace("{" + name + "}", value)
        environment = clean_environment(
            PGHOST="localhost",
            PGPORT=str(self.port),
            PGUSER=SUPERUSER,
            PGPASSWORD=self.state.password(f"{self.name}-{SUPERUSER}"),
            PGDATABASE="postgres",
            PGSSLMODE="verify-full",
            PGSSLROOTCERT=str(self.state.folder / "authority" / "ca.crt"),
        )
        completed = subprocess.run(
            [self._program("psql"), "-X", "-q"], input=script, env=environment, capture_output=True, text=True
        )
        if completed.returncode:
            raise LocalError(f"the database {self.name} cannot be set up: {completed.stderr.strip()}")
        self._marker.touch(mode=0o600)

    def stop(self) -> None:
        """Shut down fast, in order if the cluster can, and end what is left of it. Raises LocalError."""
        with contextlib.suppress(LocalError):  # its programs may have been removed since
            self._shut_down()
        super().stop()

    def _shut_down(self) -> None:
        if self.main_process() is not None:
            command = [self._program("pg_ctl"), "stop", "-s", "-m", "fast", "-D", str(self.data)]
            subprocess.run(
                [*command, "-t", str(SECONDS_TO_STOP)], cwd="/", env=clean_environment(), capture_output=True,
                **as_server_account(),
            )  # fmt: skip

    def _program(self, name: str) -> str:
        """Return a program of the version that the data is of. Raises LocalError when it is not installed."""
        version = first_number(self.data / "PG_VERSION") or packages.installed_postgresql()
        if not version or not packages.has_plpython(version):
            raise LocalError(
                f"PostgreSQL {version or ''} with PL/Python, which {self.data} needs, is not installed: run "
                "`python3 -m local install`, or `make down` to begin anew with another version"
            )
        return str(packages.programs(version) / name)
