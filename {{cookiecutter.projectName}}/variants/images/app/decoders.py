"""The decoders of large pictures: few at a time, because each takes much memory, and few requests that wait for one."""

import contextlib
import threading
from collections.abc import Iterator

from app.clients import Busy, require_client

# A larger picture needs a decoder. Decoding a smaller one takes a few milliseconds and up to 4 MB.
MAX_SMALL_PIXELS = 2**18
# Decoding a picture of 25 million pixels takes up to 400 MB, whatever the file's size.
DECODERS = 2
# Requests with large pictures, including those that are being decoded. Further ones are refused: they would keep the
# threads from small pictures.
PLACES = 8
_decoders = threading.BoundedSemaphore(DECODERS)
_places = threading.BoundedSemaphore(PLACES)


class Place:
    """A request's place in the queue for the decoders. The first large picture takes it, the block's end frees it."""

    def __init__(self) -> None:
        self._is_taken = False

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_taken:
            _places.release()

    @contextlib.contextmanager
    def decoder(self) -> Iterator[None]:
        """Hold one of the decoders. Raises Busy if the queue is full, ClientGone if the client has gone."""
        if not self._is_taken:
            if not _places.acquire(blocking=False):
                raise Busy("too many large pictures are being decoded: try again")
            self._is_taken = True
        with _decoders:
            require_client()
            yield


@contextlib.contextmanager
def any_decoder() -> Iterator[None]:
    """Hold one of the decoders, after any wait."""
    with _decoders:
        yield
