"""Keys that sign seals: on the curve P-256, in Azure Key Vault or in a file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from domain.sealing.seal import Seal, base64url

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

#: The setting that names the key.
SETTING = "QLP_SEAL_SIGNER"

_ES256 = ec.ECDSA(hashes.SHA256())
_HALF = 32

#: Largest file of a key, bytes.
_MAX_KEY_BYTES = 10_000

#: After so long a key without a version is asked for its newest one. Seconds.
_ASKED_SECONDS = 600.0


class KeyUnavailable(RuntimeError):
    """The key cannot be used now; the message names the setting and what is wrong."""


class InvalidKey(ValueError):
    """A text is no public key for seals."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What checks signatures.

    Attributes:
        key_id: its thumbprint as in RFC 7638, by which seals name it.
        pem: SubjectPublicKeyInfo.
    """

    key_id: str
    pem: str

    @classmethod
    def of(cls, key: ec.EllipticCurvePublicKey) -> PublicKey:
        """Of a key of the cryptography library."""
        numbers = key.public_numbers()
        x, y = (base64url(number.to_bytes(_HALF, "big")) for number in (numbers.x, numbers.y))
        members = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
        digest = hashlib.sha256(members.encode()).digest()
        pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(base64url(digest), pem.decode())

    @classmethod
    def parse(cls, pem: str) -> PublicKey:
        """Of a PEM file, of the private key too.

        Raises:
            InvalidKey: it is none on the curve P-256.
        """
        try:
            if "PRIVATE KEY" in pem:
                return cls.of(_private_key(pem.encode()).public_key())
            return cls.of(_public_key(pem))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidKey("is not a PEM file with a key on the curve P-256") from error

    def signed(self, seal: Seal) -> bool:
        """Whether this key has signed the seal."""
        halves = (seal.signature[:_HALF], seal.signature[_HALF:])
        signature = encode_dss_signature(*(int.from_bytes(half, "big") for half in halves))
        try:
            _public_key(self.pem).verify(signature, seal.content.encode(), _ES256)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that can sign.

    Attributes:
        public: its public part.
        sign: the signature of a text: r and s, 32 bytes each. Raises `KeyUnavailable`.
    """

    public: PublicKey
    sign: Callable[[str], Awaitable[bytes]]


class KeyStore(Protocol):
    """Where the key is."""

    async def current(self) -> SigningKey:
        """The key that signs now.

        Raises:
            KeyUnavailable: see there.
        """


class FileKey:
    """A key in a PEM file, as ``openssl ecparam -name prime256v1 -genkey -noout`` makes one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def current(self) -> SigningKey:
        """See `KeyStore.current`."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> SigningKey:
        try:
            with self._path.open("rb") as file:
                key = _private_key(file.read(_MAX_KEY_BYTES))
        except OSError as error:
            raise KeyUnavailable(f"{SETTING}: {self._path}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyUnavailable(
                f"{SETTING}: {self._path} is not a PEM file with a private key on the curve P-256 "
                "and without a password; make one with: "
                "openssl ecparam -name prime256v1 -genkey -noout"
            ) from None

        async def sign(content: str) -> bytes:
            r, s = decode_dss_signature(key.sign(content.encode(), _ES256))
            return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

        return SigningKey(PublicKey.of(key.public_key()), sign)


class VaultKey:
    """A key in Azure Key Vault, which it never leaves.

    The application's identity needs the actions ``get`` and ``sign`` on it (the role Key Vault
    Crypto User).
    """

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        **options: Any,  # noqa: ANN401 as the clients have them
    ) -> None:
        """Nothing is called yet.

        Args:
            url: ``https://NAME.vault.azure.net/keys/NAME``, the newest version, or
                ``…/keys/NAME/VERSION``.
            credential: the application's identity.
            options: of the clients of azure-keyvault-keys.
        """
        self._url, self._credential, self._options = url, credential, options
        self._current: SigningKey | None = None
        self._asked_at = 0.0

    async def current(self) -> SigningKey:
        """See `KeyStore.current`; asks at most every ten minutes for a newer version."""
        if self._current is None or time.monotonic() - self._asked_at > _ASKED_SECONDS:
            self._current = await self._ask()
            self._asked_at = time.monotonic()
        return self._current

    async def _ask(self) -> SigningKey:
        # Imported here: slow, and not needed with a file.
        from azure.core.exceptions import AzureError
        from azure.keyvault.keys import KeyVaultKeyIdentifier
        from azure.keyvault.keys.aio import KeyClient
        from azure.keyvault.keys.crypto import SignatureAlgorithm
        from azure.keyvault.keys.crypto.aio import CryptographyClient

        named = KeyVaultKeyIdentifier(self._url)
        try:
            async with KeyClient(named.vault_url, self._credential, **self._options) as client:
                found = await client.get_key(named.name, named.version)
        except AzureError as error:
            raise self._unavailable(error) from error
        key: Any = found.key
        if key.crv != "P-256" or key.x is None or key.y is None:
            raise KeyUnavailable(f"{SETTING}: {self._url} is not a key on the curve P-256")
        x, y = (int.from_bytes(half, "big") for half in (key.x, key.y))
        public = PublicKey.of(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())

        async def sign(content: str) -> bytes:
            digest = hashlib.sha256(content.encode()).digest()
            try:
                async with CryptographyClient(found, self._credential, **self._options) as client:
                    signature = (await client.sign(SignatureAlgorithm.es256, digest)).signature
            except AzureError as error:
                raise self._unavailable(error) from error
            return bytes(signature)

        return SigningKey(public, sign)

    def _unavailable(self, error: Exception) -> KeyUnavailable:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return KeyUnavailable(f"{SETTING}: {self._url}: {reason}")


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("another kind of key")
    return key


@lru_cache(8)
def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("another kind of key")
    return key
