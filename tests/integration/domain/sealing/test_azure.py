"""Seals are signed by a key that stays in Key Vault, and kept in Blob Storage."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import ContainerClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.x509.oid import NameOID
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.operations.log_integrity import LogVerifier
from domain.sealing.anchors import AnchorDiffers, AnchorUnavailable, BlobAnchor, Kept
from domain.sealing.keys import KeyUnavailable, VaultKey
from domain.sealing.reads import SealReads
from domain.sealing.seal import EMPTY_LANE, NO_SEAL, unsigned_seal
from domain.sealing.sealer import Sealer
from tests.support import ROOT

AZURITE = "azurite@3.35.0"
ACCOUNT = "qlp"
KEY = base64.b64encode(b"a key for tests, of 64 bytes".ljust(64, b".")).decode()


class _Credential:
    """Gives the token that the vault expects."""

    async def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken("a-token", 2**31)

    async def close(self) -> None: ...

    async def __aenter__(self) -> _Credential:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Vault:
    """What Key Vault does for one key: gives its public part, and signs digests.

    Source: https://learn.microsoft.com/rest/api/keyvault/keys
    """

    def __init__(self) -> None:
        self.versions = [ec.generate_private_key(ec.SECP256R1())]
        self.down = False
        self.signed = 0
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/keys/seals/", self._get),
            web.get("/keys/seals/{version}", self._get),
            web.post("/keys/seals/{version}/sign", self._sign),
        ]

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.down:
            body = {"error": {"code": "Throttled", "message": "not now"}}
            return web.json_response(body, status=503)
        if request.headers.get("Authorization") != "Bearer a-token":
            challenge = (
                'Bearer authorization="https://login.microsoftonline.com/t", '
                'resource="https://vault.azure.net"'
            )
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return None

    async def _get(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        asked = request.match_info.get("version")
        version = int(asked, 16) if asked else len(self.versions)
        numbers = self.versions[version - 1].public_key().public_numbers()
        x, y = (_b64(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
        kid = f"{self.url}/keys/seals/{version:032x}"
        key = {"kid": kid, "kty": "EC", "crv": "P-256", "x": x, "y": y, "key_ops": ["sign"]}
        return web.json_response({"key": key, "attributes": {"enabled": True}})

    async def _sign(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        asked = await request.json()
        assert asked["alg"] == "ES256"
        digest = base64.urlsafe_b64decode(asked["value"] + "==")
        key = self.versions[int(request.match_info["version"], 16) - 1]
        der = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(der)
        self.signed += 1
        value = _b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return web.json_response({"kid": str(request.url).removesuffix("/sign"), "value": value})


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def certificate(folder: Path) -> Path:
    """A key and a certificate for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    return path


@pytest_asyncio.fixture
async def vault(tmp_path: Path) -> AsyncIterator[tuple[Vault, VaultKey]]:
    vault, tls = Vault(), certificate(tmp_path)
    app = web.Application()
    app.add_routes(vault.routes())
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    vault.url = f"https://localhost:{port}"
    options = {"verify_challenge_resource": False, "connection_verify": str(tls), "retry_total": 0}
    key = VaultKey(f"{vault.url}/keys/seals", _Credential(), **options)
    yield vault, key
    await runner.cleanup()


async def append(log: EventLog, stream_id: str) -> None:
    event = NewEvent(uuid4(), "Happened", 1, {})
    await log.append(stream_id, "acme", 0, uuid4(), [event], {})


async def test_seals_are_signed_by_a_key_in_key_vault_and_after_its_rotation_by_the_next(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    vault: tuple[Vault, VaultKey],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    azure, key = vault
    sealer = Sealer(pool, key)
    await append(event_log, "a")
    azure.down = True
    with pytest.raises(KeyUnavailable, match="QLP_SEAL_SIGNER: https://localhost"):
        await sealer.run_until_caught_up()
    azure.down = False
    assert await sealer.run_until_caught_up() == 1
    azure.versions.append(ec.generate_private_key(ec.SECP256R1()))
    await append(event_log, "b")
    assert await sealer.run_until_caught_up() == 1
    monkeypatch.setattr("domain.sealing.keys._ASKED_SECONDS", -1.0)
    await append(event_log, "c")
    assert await sealer.run_until_caught_up() == 1
    assert azure.signed == 3
    result = await LogVerifier(pool).verify()
    assert (result.seals, result.findings) == (3, [])
    assert [(by.first, by.last) for by in result.signed_by.values()] == [(1, 2), (3, 3)]


@pytest.fixture(scope="module")
def azurite_home() -> Path:
    """Where Azurite is, installed once; tests are skipped where there is no npm."""
    home = ROOT / ".venv" / "azurite"
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm")
    if not (home / "node_modules").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home)]
        done = subprocess.run(
            [*command, AZURITE], capture_output=True, text=True, timeout=200, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"npm could not install {AZURITE}: {done.stderr[-300:]}")
    return home


@pytest_asyncio.fixture
async def container(azurite_home: Path, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an empty container, with a signature that lets read and add blobs."""
    process = await asyncio.create_subprocess_exec(
        str(azurite_home / "node_modules" / ".bin" / "azurite-blob"),
        *(
            "--blobPort",
            "0",
            "--location",
            str(tmp_path),
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ),
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"successfully listen" not in (line := await process.stdout.readline()):
                assert line, "Azurite has ended"
        port = line.decode().strip().rpartition(":")[2]
        account = f"http://127.0.0.1:{port}/{ACCOUNT}"
        async with ContainerClient(account, "seals", KEY) as client:
            await client.create_container()
        signature = generate_container_sas(
            ACCOUNT,
            "seals",
            account_key=KEY,
            permission=ContainerSasPermissions(read=True, list=True, create=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        yield f"{account}/seals?{signature}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.timeout(300)
async def test_seals_are_kept_in_blob_storage_each_once_and_compared(
    event_log: EventLog, pool: AsyncConnectionPool, container: str
) -> None:
    anchor = BlobAnchor(container, None)
    assert "sig=" not in anchor.name
    sealer = Sealer(pool, None, anchor)
    for number in range(3):
        await append(event_log, f"s-{number}")
        await sealer.run_until_caught_up()
        await sealer.run_until_caught_up()
    seals = await SealReads(pool).newest(9)
    kept = [each async for each in anchor.kept()]
    assert kept == [Kept(seal.number, seal.digest) for seal in reversed(seals)]
    await anchor.keep(seals[0])  # again, as after a crash
    with pytest.raises(AnchorDiffers, match="holds seal 3, and the log has come to seal 2 now"):
        await anchor.keep(seals[1])  # as of a log that was cut back
    result = await LogVerifier(pool).verify(kept=kept)
    assert (result.anchored, result.findings) == (3, [])
    forged = unsigned_seal(3, datetime.now(UTC), [EMPTY_LANE] * 256, NO_SEAL, None)
    with pytest.raises(AnchorDiffers, match="holds another seal"):
        await anchor.keep(forged)
    name = f"seal-{2:012}-{seals[1].digest.hex()}.jws"
    async with ContainerClient.from_container_url(container) as client:
        stored = await (await client.download_blob(name)).readall()
    assert stored.decode() == str(seals[1])
    assert hashlib.sha256(stored.rpartition(b".")[0]).hexdigest() == seals[1].digest.hex()
    payload = json.loads(base64.urlsafe_b64decode(stored.split(b".")[1] + b"=="))
    assert payload["events"] == 2


async def test_a_container_that_cannot_be_reached_is_named_without_its_signature() -> None:
    anchor = BlobAnchor("http://127.0.0.1:1/qlp/seals?sig=secret", None)
    seal = unsigned_seal(1, datetime.now(UTC), [EMPTY_LANE] * 256, NO_SEAL, None)
    with pytest.raises(AnchorUnavailable, match=r"127.0.0.1:1/qlp/seals: ") as found:
        await anchor.keep(seal)
    assert "secret" not in str(found.value)
