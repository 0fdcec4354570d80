"""Forwards ports of this machine's 127.0.0.1 to an address that the node's pods can reach.

python -m cluster.ports PORT      forwards connections until it is killed
"""

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

from .places import HOST_ADDRESS
from .processes import Process
from .waiting import wait_for

CHUNK = 1 << 16


def publish(port: int) -> str:
    """Forward 10.96.0.2:PORT to 127.0.0.1:PORT until the cluster stops; return the address."""
    process = Process(f"port-{port}")
    if process.pid is None:
        process.start(
            [sys.executable, "-m", "cluster.ports", str(port)], {"PYTHONPATH": str(Path(__file__).parents[1])}
        )
        wait_for(f"{HOST_ADDRESS}:{port}", lambda: _listens(port), 20, process.check)
    return f"{HOST_ADDRESS}:{port}"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST_ADDRESS, port), 1):
        return True
    return False


async def _serve(port: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))
        for stream in (writer, target_writer):
            stream.close()

    server = await asyncio.start_server(forward, HOST_ADDRESS, port)
    async with server:
        await server.serve_forever()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the sender closes its side; the other direction may continue."""
    while content := await source.read(CHUNK):
        target.write(content)
        await target.drain()
    target.write_eof()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
