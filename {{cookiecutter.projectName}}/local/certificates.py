"""A certificate authority of the project's own, and the servers' certificates, made with `openssl`."""

import pathlib
import subprocess

from local.errors import LocalError
from local.processes import clean_environment, give_to_server_account
from local.state import make_folder

DAYS = "3650"
# A file of our own: what the system's openssl.cnf adds differs from machine to machine.
CONFIG = """\
[req]
distinguished_name = subject
prompt = no
[subject]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_authority(folder: pathlib.Path) -> None:
    """Make the authority in `folder` (ca.crt, ca.key) unless it is there. Raises LocalError."""
    make_folder(folder, 0o700)
    if not (folder / "ca.crt").exists():
        _certify("authority", f"in-database-ml {folder.parent.name}"[:64], folder / "ca", [])


def make_server_certificate(authority: pathlib.Path, folder: pathlib.Path) -> None:
    """Make a server's server.crt and server.key in `folder` unless they are there. Raises LocalError."""
    if not (folder / "server.crt").exists():
        signer = ["-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key")]
        _certify("server", "localhost", folder / "server", signer)
        give_to_server_account(folder / "server.key")


def _certify(section: str, name: str, target: pathlib.Path, signer: list[str]) -> None:
    """Write `target`.key (0600) and then `target`.crt, whose presence means that both are there."""
    config, unfinished = target.with_suffix(".cnf"), target.with_suffix(".unfinished")
    config.write_text(CONFIG.format(name=name), encoding="ascii")
    key = target.with_suffix(".key")
    key.unlink(missing_ok=True)
    command = [
        "openssl", "req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-sha256", "-days", DAYS, "-config", str(config), "-extensions", section,
        "-keyout", str(key), "-out", str(unfinished), *signer,
    ]  # fmt: skip
    try:
        completed = subprocess.run(command, env=clean_environment(), umask=0o077, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LocalError("openssl is not on PATH: run `python3 -m local install`") from error
    if completed.returncode:
        raise LocalError(f"openssl cannot make a certificate in {target.parent}: {_last_line(completed.stderr)}")
    unfinished.chmod(0o644)
    unfinished.replace(target.with_suffix(".crt"))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
