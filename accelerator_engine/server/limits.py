"""The hosts that the server answers to, and the sizes that it accepts."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Hosts that stand for all addresses of the machine, whose names are unknown.
ANY_HOST = ("0.0.0.0", "::")  # noqa: S104

# Bytes of a request, of all its archives without compression, and of one field.
MOST_BYTES = 64 * 1024 * 1024
MOST_UNPACKED = 128 * 1024 * 1024
MOST_FIELD = 1024 * 1024
MOST_PARTS = 200
DEEPEST_OPTIONS = 50
# Characters.
LONGEST_PARAMETER = 200


def shortened(text: str) -> str:
    """Return the text of a request for a message, cut after `LONGEST_PARAMETER` characters."""
    return text[:LONGEST_PARAMETER]


def request_limits() -> str:
    """Return the limits of a request as one sentence."""
    return f"a request may have {MOST_BYTES} bytes, {MOST_PARTS} parts, and fields of {MOST_FIELD} bytes"
