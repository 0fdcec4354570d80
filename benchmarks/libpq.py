"""A minimal client on the system's libpq: the cost of a prepared, binary call without a driver."""

import ctypes
import ctypes.util

from pipeline.databases import binding

OK = (1, 2)  # PGRES_COMMAND_OK, PGRES_TUPLES_OK
BYTEA = 17


class Libpq:
    """One session of a binding, with the address and TLS settings of the project's sessions."""

    def __init__(self, name: str) -> None:
        self._pq = _load()
        self._session = self._pq.PQconnectdb(_address(name).encode())
        if self._pq.PQstatus(self._session):
            raise RuntimeError(self._pq.PQerrorMessage(self._session).decode())

    def prepare(self, statement: str, parameters: int) -> None:
        """Prepare the statement of this session; its parameters are bytea."""
        types = (ctypes.c_uint * max(parameters, 1))(*[BYTEA] * parameters)
        self._check(self._pq.PQprepare(self._session, b"p", statement.encode(), parameters, types))

    def call(self, value: bytes | None = None) -> None:
        """Run the statement with at most one parameter; parameter and result are binary."""
        count = 0 if value is None else 1
        values = (ctypes.c_char_p * 1)(value)
        lengths = (ctypes.c_int * 1)(len(value or b""))
        formats = (ctypes.c_int * 1)(1)
        self._check(self._pq.PQexecPrepared(self._session, b"p", count, values, lengths, formats, 1))

    def _check(self, result: int) -> None:
        status = self._pq.PQresultStatus(result)
        self._pq.PQclear(result)
        if status not in OK:
            raise RuntimeError(self._pq.PQerrorMessage(self._session).decode())

    def close(self) -> None:
        """Close the session."""
        self._pq.PQfinish(self._session)


def _load() -> ctypes.CDLL:
    """Load libpq and declare its functions. Raises OSError if it is not installed."""
    pq = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
    for name in ("PQconnectdb", "PQprepare", "PQexecPrepared"):
        getattr(pq, name).restype = ctypes.c_void_p
    pq.PQerrorMessage.restype = ctypes.c_char_p
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name in ("PQstatus", "PQerrorMessage", "PQfinish", "PQresultStatus", "PQclear"):
        getattr(pq, name).argtypes = [pointer]
    pq.PQprepare.argtypes = [pointer, text, text, number, pointer]
    pq.PQexecPrepared.argtypes = [pointer, text, number, pointer, pointer, pointer, number]
    return pq


def _address(name: str) -> str:
    keys_of_binding = binding(name)
    keys = {
        "host": keys_of_binding.host,
        "port": keys_of_binding.port,
        "dbname": keys_of_binding.database,
        "user": keys_of_binding.username,
        "password": keys_of_binding.password,
        "sslmode": keys_of_binding.sslmode,
        "sslrootcert": keys_of_binding.ca_file,
    }
    return " ".join(f"{key}='{value}'" for key, value in keys.items() if value)
