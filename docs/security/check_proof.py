"""Checks a proof of ``qlp log prove``: python3 check_proof.py proof.json [public-key.pem].

Needs Python 3.11 and the package cryptography, and nothing of the log or of QLP. Without a key of
your own, the one in the proof is used: then compare it with one that you trust.
"""

import base64
import hashlib
import json
import struct
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MEMBERS = {
    *("event_id", "command_id", "stream_id", "version", "type", "schema_version", "tenant_id"),
    *("recorded_at", "recorded_at_microseconds", "metadata", "data"),
}


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def check(proof: dict[str, Any], pem: str) -> str:
    """What the proof proves; a ValueError says why it does not."""
    event, lane, position = proof["event"], proof["lane"], proof["lane_position"]

    # 1. The event's digest covers all of its content.
    names = ("stream_id", "type", "tenant_id", "metadata", "data")
    texts = [event[name].encode() for name in names]
    ids = [uuid.UUID(event[name]).bytes for name in ("event_id", "command_id")]
    numbers = (event["recorded_at_microseconds"], event["version"], event["schema_version"])
    fixed = struct.pack(">16s16sqih5i", *ids, *numbers, *map(len, texts))
    digest = _sha256(b"\x01", fixed, *texts)
    recorded_at = _EPOCH + timedelta(microseconds=event["recorded_at_microseconds"])
    _require(event["recorded_at"] == recorded_at.isoformat(), "recorded_at is not the time covered")
    _require(event.keys() == _MEMBERS, "the event has other members than are covered")

    # 2. The lane's chain leads from the event to the lane's last event in the seal.
    chain = bytes.fromhex(proof["chain_before"])
    for each in (digest, *map(bytes.fromhex, proof["following"])):
        chain = _sha256(b"\x03", struct.pack(">hq", lane, position), chain, each)
        position += 1

    # 3. The Merkle tree leads from there to the seal's root (RFC 6962, 256 leaves).
    node, index = _sha256(b"\x00", struct.pack(">hq32s", lane, position - 1, chain)), lane
    _require(len(proof["path"]) == 8, "the path has not eight hashes")
    for sibling in map(bytes.fromhex, proof["path"]):
        node = _sha256(b"\x01", *((sibling, node) if index & 1 else (node, sibling)))
        index //= 2
    content, _, signature = proof["seal"].rpartition(".")
    header, seal = (json.loads(_decoded(part)) for part in content.split("."))
    _require(node.hex() == seal["root"], "the event does not lead to the seal's root")

    # 4. The seal is signed (RFC 7515, ES256).
    _require(header["alg"] == "ES256", "the seal is not signed")
    halves = _decoded(signature)[:32], _decoded(signature)[32:]
    der = utils.encode_dss_signature(*(int.from_bytes(half, "big") for half in halves))
    key = serialization.load_pem_public_key(pem.encode())
    _require(isinstance(key, ec.EllipticCurvePublicKey), "the key is of another kind")
    try:
        key.verify(der, content.encode(), ec.ECDSA(hashes.SHA256()))  # type: ignore[union-attr,call-arg]
    except InvalidSignature:
        raise ValueError("the key has not signed the seal") from None
    when = f"seal {seal['seal']} of {seal['sealed_at']}"
    return f"event {event['event_id']} in stream {event['stream_id']} is covered by {when}"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python3 check_proof.py proof.json [public-key.pem]")
    try:
        given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        trusted = Path(sys.argv[2]).read_text("utf-8") if sys.argv[2:] else given["public_key"]
        sys.stdout.write(f"{check(given, trusted)}\n")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"not proved: {error}")
    except (AttributeError, KeyError, OverflowError, TypeError, struct.error):
        sys.exit("not proved: it is not in the form of a proof")
