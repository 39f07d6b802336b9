"""Tokens that authenticate a sandbox host to the application, each for one run only.

A token is ``<tenant>.<intent>.<MAC>``: HMAC-SHA256 over run, intent and tenant, in URL-safe
base64. It is derived, so a job that is sent again has the same token, and nothing is stored. It is
of no use after the run: whoever checks it also checks that the run's result is still awaited.
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

#: Minimum length of a key, bytes: that of the hash (RFC 2104, section 3).
MIN_KEY_BYTES = 32

_PURPOSE = b"qlp-run-1"


_TOKEN = re.compile(r"([a-z0-9-]{1,64})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})\Z")


class RunOwner(NamedTuple):
    """The tenant and intent of a run."""

    tenant_id: str
    intent_id: UUID


class RunTokens:
    """Issues tokens with the first of its keys and accepts tokens of all of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def issue(self, run_id: UUID, intent_id: UUID, tenant_id: str) -> str | None:
        """The token of a run; None if there are no keys."""
        if not self._keys:
            return None
        mac = _mac(self._keys[0], run_id, intent_id, tenant_id)
        return f"{tenant_id}.{intent_id.hex}.{mac}"

    def owner_of(self, token: str, run_id: UUID) -> RunOwner | None:
        """The owner of the run; None if ``token`` is not valid for this run."""
        match = _TOKEN.match(token)
        if match is None or not re.match(TENANT_PATTERN, match[1]):
            return None
        owner = RunOwner(match[1], UUID(match[2]))
        macs = [_mac(key, run_id, owner.intent_id, owner.tenant_id) for key in self._keys]
        # All are compared, in constant time, so that not even the matching key can be timed.
        same = [hmac.compare_digest(mac, match[3]) for mac in macs]
        return owner if any(same) else None


def _mac(key: bytes, run_id: UUID, intent_id: UUID, tenant_id: str) -> str:
    message = _PURPOSE + run_id.bytes + intent_id.bytes + tenant_id.encode()
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
