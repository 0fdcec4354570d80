"""What goes wrong with the cluster, each in a sentence that says what to do."""

# Of a command's output in a message.
OUTPUT = 2000


class ClusterError(Exception):
    """The cluster cannot be started, used or removed; the text says why."""


class CommandFailed(ClusterError):
    """A command ended with an error; `output` is what it said."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"{command}: {output.strip()[:OUTPUT]}")
        self.output = output


class Refused(ClusterError):
    """The API server refuses a manifest; the text is its reason."""
