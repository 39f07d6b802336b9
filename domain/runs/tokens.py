"""Tokens by which a sandbox host speaks for one run, and for no other.

A token is ``<tenant>.<intent>.<MAC>``: HMAC-SHA256 over run, intent and tenant, in URL-safe
base64. It is derived, so a job that is sent again carries the same one, and nothing about it is
stored. It ends with the run: whoever checks it also asks whether the run is still awaited.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from domain.contracts.envelope import TENANT_PATTERN

#: Shortest key, bytes: as long as the hash (RFC 2104, section 3).
MIN_KEY_BYTES = 32

_PURPOSE = b"qlp-run-1"


_TOKEN = re.compile(r"([a-z0-9-]{1,64})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})\Z")


class RunOwner(NamedTuple):
    """Whose run it is."""

    tenant_id: str
    intent_id: UUID


class RunTokens:
    """Issues tokens under the first of its keys and accepts them under each."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def issue(self, run_id: UUID, intent_id: UUID, tenant_id: str) -> str | None:
        """The token of a run; None where there is no key."""
        if not self._keys:
            return None
        mac = _mac(self._keys[0], run_id, intent_id, tenant_id)
        return f"{tenant_id}.{intent_id.hex}.{mac}"

    def owner_of(self, token: str, run_id: UUID) -> RunOwner | None:
        """Whose run ``token`` speaks for; None where it does not speak for this run."""
        match = _TOKEN.match(token)
        if match is None or not re.match(TENANT_PATTERN, match[1]):
            return None
        owner = RunOwner(match[1], UUID(match[2]))
        macs = [_mac(key, run_id, owner.intent_id, owner.tenant_id) for key in self._keys]
        # Each is compared, in constant time: which key it was is nobody's business either.
        same = [hmac.compare_digest(mac, match[3]) for mac in macs]
        return owner if any(same) else None


def _mac(key: bytes, run_id: UUID, intent_id: UUID, tenant_id: str) -> str:
    message = _PURPOSE + run_id.bytes + intent_id.bytes + tenant_id.encode()
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
