"""API keys: the hashes of the keys that clients may use, in a folder that can change while the app runs.

Each file of the folder belongs to the subject that it is named after. Each of its lines is the SHA-256 of a key in
hexadecimal, a blank, and the key's roles, separated by commas. Several lines are several keys, which are valid at once.
"""

import hashlib
import hmac
import logging
import pathlib
import re
import threading
import time
from typing import NamedTuple

from app.settings import SettingsError
from app.subjects import ROLES, NotAuthenticated, Subject

# The folder is read again after this time.
SECONDS_BETWEEN_READS = 1
SUBJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LINE = re.compile(r"([0-9a-f]{64})[ \t]+([a-z,]+)")
# Names of rows in the databases whose subject is not known.
RESERVED = ("anonymous", "unknown")
# The file that names the kind of the service binding.
TYPE, KIND = "type", "api-keys"
logger = logging.getLogger("app.api_keys")


class Key(NamedTuple):
    """The hash of a key, in hexadecimal, and the subject that the key proves."""

    digest: str
    subject: Subject


class ApiKeys:
    """The keys of a folder; thread-safe. Raises SettingsError if the folder or one of its files is wrong at the start.

    A file that becomes wrong later grants nothing, and the log names it.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._keys, mistakes = _read(folder)
        if mistakes:
            raise SettingsError(mistakes[0])
        self._mistakes: list[str] = []
        self._read_at = time.monotonic()
        self._lock = threading.Lock()

    def subject(self, key: str) -> Subject:
        """Return the subject that a key proves. Raises NotAuthenticated."""
        return self.subject_of(digest(key))

    def subject_of(self, hashed: str) -> Subject:
        """Return the subject that a key with this hash proves. Raises NotAuthenticated."""
        subject = None
        # All keys are compared, so that the time does not depend on the key.
        for key in self._current():
            if hmac.compare_digest(key.digest, hashed):
                subject = key.subject
        if subject is None:
            raise NotAuthenticated("the key is not valid")
        return subject

    def _current(self) -> list[Key]:
        """Return the keys, which are read again from time to time."""
        with self._lock:
            if time.monotonic() - self._read_at >= SECONDS_BETWEEN_READS:
                self._keys, mistakes = _read(self._folder)
                for mistake in mistakes:
                    if mistake not in self._mistakes:
                        logger.error(mistake)
                self._mistakes = mistakes
                self._read_at = time.monotonic()
            return self._keys


def digest(key: str) -> str:
    """Return the hash of a key, in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def line(key: str, roles: tuple[str, ...]) -> str:
    """Return the line of a key."""
    return f"{digest(key)} {','.join(roles)}"


def _read(folder: pathlib.Path) -> tuple[list[Key], list[str]]:
    """Return the keys of a folder, and a sentence for each mistake; a file with a mistake has no keys."""
    keys: list[Key] = []
    mistakes: list[str] = []
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        kind = (folder / TYPE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"the service binding {folder} cannot be read: {error}"]
    if kind != KIND:
        return [], [f"the service binding {folder} is of type {kind!r}; allowed is {KIND}"]
    for path in files:
        # A name with a leading dot is not a subject's: Kubernetes keeps its own files in the folder.
        if path.name == TYPE or path.name.startswith("."):
            continue
        try:
            keys += _read_file(path)
        except SettingsError as error:
            mistakes.append(str(error))
    return keys, mistakes


def _read_file(path: pathlib.Path) -> list[Key]:
    """Return the keys of a subject. Raises SettingsError, whose text holds no line."""
    if not SUBJECT.fullmatch(path.name):
        raise SettingsError(
            f"{path}: the name of a subject has up to 63 lower-case letters, digits, '.', '_' and '-', and starts with "
            "a letter or a digit"
        )
    if path.name in RESERVED:
        raise SettingsError(f"{path}: the subject {path.name} stands for requests without a key: name it otherwise")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    return [_read_line(path, number, text.strip()) for number, text in enumerate(lines, 1) if text.strip()]


def _read_line(path: pathlib.Path, number: int, text: str) -> Key:
    """Return the key of a line. Raises SettingsError."""
    match = LINE.fullmatch(text)
    roles = frozenset(match[2].split(",")) if match else frozenset()
    if not match or not roles <= set(ROLES):
        raise SettingsError(
            f"{path}, line {number}: a line is the 64 hexadecimal digits of a key's SHA-256, a blank, and roles out of "
            f"{', '.join(ROLES)}, separated by commas; `python -m app.new_key` makes one"
        )
    return Key(match[1], Subject(path.name, roles))
