"""Where settings say that the key and the anchor are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain.sealing.anchors import Anchor, BlobAnchor, FileAnchor
from domain.sealing.keys import FileKey, KeyStore, VaultKey

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential


def is_url(place: str | None) -> bool:
    """Whether it is a URL, and no path."""
    return place is not None and "://" in place


def key_at(place: str | None, credential: AsyncTokenCredential | None) -> KeyStore | None:
    """The key at a path, or in Azure Key Vault; None without a place.

    Args:
        place: as `domain.contracts.connections.seal_signer` returns it.
        credential: for Key Vault.
    """
    if place is None:
        return None
    if not is_url(place):
        return FileKey(Path(place))
    assert credential is not None
    return VaultKey(place, credential)


def anchor_at(place: str | None, credential: AsyncTokenCredential | None) -> Anchor | None:
    """The anchor at a path, or in Azure Blob Storage; None without a place.

    Args:
        place: as `domain.contracts.connections.seal_anchor` returns it.
        credential: for a URL without a shared access signature.
    """
    if place is None:
        return None
    if not is_url(place):
        return FileAnchor(Path(place))
    return BlobAnchor(place, None if urlsplit(place).query else credential)
