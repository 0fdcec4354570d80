"""Errors of the cluster. Each message is one sentence, and says what to do."""

# Characters of a command's output in a message.
MAX_OUTPUT = 2000


class ClusterError(Exception):
    """The cluster cannot be started, used or removed; the message says why."""


class CommandFailed(ClusterError):
    """A command exited with an error; `output` is what it printed."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"{command}: {output.strip()[:MAX_OUTPUT]}")
        self.output = output


class Refused(ClusterError):
    """The API server rejects a manifest; the message is its reason."""
