"""HTTP/1.1 as uvicorn speaks it, with a time limit for the headers of a request, which uvicorn itself does not have."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds from the first byte of a request, or from the connection, until its headers are complete.
SECONDS_FOR_HEADERS = 10


class Protocol(H11Protocol):
    """Closes a connection whose headers do not arrive in time; further bytes do not prolong the time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time with the connection."""
        super().connection_made(transport)
        self._limit_headers()

    def data_received(self, data: bytes) -> None:
        """Start the time with a request's first byte, and end it with its headers."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._limit_headers()
        else:
            self._end_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the time."""
        self._end_limit()
        super().connection_lost(exc)

    def _limit_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(SECONDS_FOR_HEADERS, self.timeout_keep_alive_handler)

    def _end_limit(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
