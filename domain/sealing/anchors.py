"""Anchors: where seals are kept, out of reach of the database's owner."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from domain.sealing.seal import MAX_TEXT, InvalidSeal, Seal

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import ContainerClient

_BLOB = re.compile(r"seal-(\d{12,19})-([0-9a-f]{64})\.jws")
_FILE_MODE = 0o644
_CALL_SECONDS = 30.0

#: How long another process may write to a file. Seconds.
_LOCK_SECONDS = 5.0

#: The end of a file, which contains a whole line. Bytes.
_TAIL = 2 * MAX_TEXT


class AnchorUnavailable(RuntimeError):
    """An anchor cannot be reached, read or written; the message says why."""


class AnchorDiffers(RuntimeError):
    """An anchor holds another seal with this number, or a newer one: the log is not what it was."""


class Kept(NamedTuple):
    """A seal that an anchor holds: its number and digest."""

    number: int
    digest: bytes


class Anchor(Protocol):
    """Keeps seals.

    Attributes:
        name: says which, without secrets.
    """

    name: str

    async def keep(self, seal: Seal) -> None:
        """Keep a seal; nothing happens if it is there.

        Raises:
            AnchorUnavailable, AnchorDiffers: it is not kept.
        """

    def kept(self) -> AsyncIterator[Kept]:
        """The seals that are kept, in no certain order.

        Raises:
            AnchorUnavailable: they cannot be read.
        """


class FileAnchor:
    """A file with a seal in each line, which only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    async def keep(self, seal: Seal) -> None:
        """See `Anchor.keep`."""
        await asyncio.to_thread(self._keep, seal)

    def _keep(self, seal: Seal) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            with open(os.open(self._path, flags, _FILE_MODE), "r+b", buffering=0) as file:
                self._lock(file.fileno())  # ends with the file
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.readall().split(b"\n")
                torn = lines.pop() != b""  # somebody was killed while he wrote
                if lines and (last := _kept(lines[-1])) is not None:
                    if last == Kept(seal.number, seal.digest):
                        return
                    if last.number >= seal.number:
                        raise _differs(self.name, seal, last)
                line = f"{chr(10) * torn}{seal}\n".encode()
                if file.write(line) != len(line):
                    raise AnchorUnavailable(f"{self.name}: no space is left")
                os.fsync(file.fileno())
        except OSError as error:
            raise AnchorUnavailable(f"{self.name}: {error.strerror}") from None

    def _lock(self, descriptor: int) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise AnchorUnavailable(f"{self.name}: somebody keeps it locked") from None
                time.sleep(0.05)

    async def kept(self) -> AsyncIterator[Kept]:
        """See `Anchor.kept`; a line that is no seal is left out."""
        try:
            with self._path.open("rb") as file:
                while line := file.readline(MAX_TEXT + 1):
                    if (found := _kept(line)) is not None:
                        yield found
        except OSError as error:
            raise AnchorUnavailable(f"{self.name}: {error.strerror}") from None


class BlobAnchor:
    """A container of Azure Blob Storage, whose policy is to let nobody change or delete blobs.

    Each seal is a blob, whose name contains its number and digest.
    """

    def __init__(self, url: str, credential: AsyncTokenCredential | None) -> None:
        """Nothing is called yet.

        Args:
            url: of the container; it may contain a shared access signature.
            credential: the application's identity, if the URL contains none.
        """
        self._url, self._credential = url, credential
        self.name = urlsplit(url)._replace(query="", fragment="").geturl()

    async def keep(self, seal: Seal) -> None:
        """See `Anchor.keep`."""
        from azure.core.exceptions import ResourceExistsError

        prefix = f"seal-{seal.number:012}-"
        name = f"{prefix}{seal.digest.hex()}.jws"
        async with self._container() as container:
            following = f"seal-{seal.number + 1:012}-"
            async for _ in container.list_blob_names(name_starts_with=following):
                raise _differs(self.name, seal, Kept(seal.number + 1, b""))
            async for blob in container.list_blob_names(name_starts_with=prefix):
                if blob != name:
                    raise _differs(self.name, seal, Kept(seal.number, b""))
                return
            with suppress(ResourceExistsError):  # another process was faster
                await container.upload_blob(name, str(seal).encode(), overwrite=False)

    async def kept(self) -> AsyncIterator[Kept]:
        """See `Anchor.kept`; blobs of other names are left out."""
        async with self._container() as container:
            async for name in container.list_blob_names(name_starts_with="seal-"):
                if found := _BLOB.fullmatch(name):
                    yield Kept(int(found[1]), bytes.fromhex(found[2]))

    @asynccontextmanager
    async def _container(self) -> AsyncIterator[ContainerClient]:
        # Imported here: slow, and not needed with a file.
        from azure.core.exceptions import AzureError
        from azure.storage.blob.aio import ContainerClient

        try:
            async with ContainerClient.from_container_url(
                self._url,
                self._credential,
                connection_timeout=_CALL_SECONDS,
                read_timeout=_CALL_SECONDS,
                retry_total=2,
                initial_backoff=1,
            ) as container:
                yield container
        except AzureError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise AnchorUnavailable(f"{self.name}: {reason}") from error


def _kept(line: bytes) -> Kept | None:
    try:
        seal = Seal.parse(line.decode("ascii").rstrip("\r\n"))
    except (UnicodeDecodeError, InvalidSeal):
        return None
    return Kept(seal.number, seal.digest)


def _differs(name: str, seal: Seal, found: Kept) -> AnchorDiffers:
    other = "another seal" if found.number == seal.number else f"seal {found.number}"
    return AnchorDiffers(
        f"{name} holds {other}, and the log has come to seal {seal.number} now: it was restored to "
        "an earlier time, or rewritten; `qlp log verify --anchor` says more"
    )
