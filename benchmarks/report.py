"""RESULTS.md: the figures as a table, with the machine and the versions."""

import datetime
import os
import pathlib
import re

from benchmarks.figures import TIE, Figure

# A load average above this before the run means that other programs used the machine.
BUSY = 0.7

TEXT = """\
# Results

Written by `{command}` on {date}; all figures are from that one run.

- A ratio compares medians of interleaved rounds (peer, ours, peer, ours, …): 1.10× means 1.1 times the peer's
  speed. Differences of less than ±{tie:.0f} % are a tie. The first call of each way is not counted.
- Sessions are warm unless said otherwise, and speak TLS over TCP on the loopback interface, as the project
  runs them. A pair of times is p50 / p95 with the round trip.
- Data: seeded synthetic images, uint8 32×32×3, ten classes.
- Machine: {machine}. Load average {before:.1f} before and {after:.1f} after the run{shared}.
- Versions: {versions}.

| Figure | Value | Goal | Reached | Peer | Rounds | More |
|---|---|---|---|---|---|---|
{table}
"""


def table(figures: list[Figure]) -> str:
    """Return the lines of a Markdown table, one per figure."""
    return "\n".join(
        f"| {_cells(f.name, f.value, f.goal or '–', f.reached or '–', f.peer or '–', str(f.rounds), f.detail)} |"
        for f in figures
    )


def _cells(*texts: str) -> str:
    return " | ".join(text.replace("|", "\\|") for text in texts)


def document(figures: list[Figure], versions: dict[str, str], command: str, before: float, after: float) -> str:
    """Return the text of RESULTS.md; `before` and `after` are load averages."""
    shared = before > BUSY
    return TEXT.format(
        command=command,
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        tie=100 * TIE,
        machine=machine(),
        before=before,
        after=after,
        shared=": **other programs had the CPU too, so these figures are preliminary**" if shared else "",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        table=table(figures),
    )


def machine() -> str:
    """Return CPU model, usable cores and memory."""
    model = re.search(r"^model name\s*:\s*(.+)$", _proc("cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", _proc("meminfo"), re.MULTILINE)
    gibibytes = f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown"
    return f"{model[1] if model else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores, {gibibytes} of memory"


def _proc(name: str) -> str:
    return pathlib.Path("/proc", name).read_text(encoding="utf-8", errors="replace")


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]
