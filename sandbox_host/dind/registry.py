"""Signs in at an Azure container registry with the machine's managed identity."""

from __future__ import annotations

import requests
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

#: User name that goes with a refresh token,
#: https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md
_TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - not a password # nosec B105

_SCOPE = "https://management.azure.com/.default"


class RegistryRefused(Exception):
    """The registry did not let this host in; the message says why."""


def registry_of(image: str) -> str | None:
    """The registry in an image's name; None where it names none."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else None


def credentials(registry: str) -> dict[str, str] | None:
    """What the engine is to sign in with; None for registries that are not Azure's.

    Raises:
        RegistryRefused: no identity, or it may not pull.
    """
    if not registry.endswith(".azurecr.io"):
        return None
    try:
        with DefaultAzureCredential() as identity:
            token = identity.get_token(_SCOPE).token
    except AzureError as error:
        raise RegistryRefused(f"no Azure identity: {error}") from error
    return {"username": _TOKEN_USER, "password": exchange(f"https://{registry}", registry, token)}


def exchange(url: str, registry: str, token: str) -> str:
    """A refresh token of the registry for an Azure access token.

    Raises:
        RegistryRefused: the identity may not pull, or nobody answered.
    """
    form = {"grant_type": "access_token", "service": registry, "access_token": token}
    try:
        answer = requests.post(f"{url}/oauth2/exchange", data=form, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["refresh_token"])
    except (requests.RequestException, KeyError, ValueError) as error:
        raise RegistryRefused(f"{registry} gave no token: {error}") from error
