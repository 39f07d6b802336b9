"""A load generator that costs little: raw HTTP/1.1 over kept-alive connections."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def load(port: int, sent: bytes, status: int, clients: int, seconds: float) -> list[float]:
    """Latencies in seconds of all requests that ``clients`` connections make in ``seconds``.

    Raises:
        RuntimeError: an answer with another status than ``status``.
    """
    until = time.perf_counter() + seconds
    latencies: list[float] = []
    expected = f"HTTP/1.1 {status} ".encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < until:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(expected):
                raise RuntimeError(f"unexpected answer: {head[:60]!r}")
            if (length := _LENGTH.search(head)) and int(length[1]):
                await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return latencies
