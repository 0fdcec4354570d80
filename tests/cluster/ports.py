"""Ports of this machine's 127.0.0.1, made known to the node's pods at an address of the link between them.

python -m cluster.ports PORT      passes connections on until it is ended
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
    """Pass connections to 10.96.0.2:PORT on to 127.0.0.1:PORT, until the cluster ends; return the address."""
    process = Process(f"port-{port}")
    if process.number is None:
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
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        for side in (writer, back):
            side.close()

    server = await asyncio.start_server(connected, HOST_ADDRESS, port)
    async with server:
        await server.serve_forever()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until the sender has said all; the other direction may go on."""
    while content := await source.read(CHUNK):
        target.write(content)
        await target.drain()
    target.write_eof()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
