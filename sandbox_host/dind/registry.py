"""Signs in to an Azure container registry with the machine's managed identity."""

from __future__ import annotations

import requests
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

#: The user name to send with a refresh token,
#: https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md
_TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - not a password # nosec B105

_SCOPE = "https://management.azure.com/.default"


class RegistryRefused(Exception):
    """The registry refused this host; the message says why."""


def registry_of(image: str) -> str | None:
    """The registry in an image's name; None if it names none."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else None


def credentials(registry: str) -> dict[str, str] | None:
    """The credentials for the engine to sign in with; None for registries that are not Azure's.

    Raises:
        RegistryRefused: there is no identity, or it is not allowed to pull.
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
    """Exchange an Azure access token for a refresh token of the registry.

    Raises:
        RegistryRefused: the identity is not allowed to pull, or the registry did not answer.
    """
    form = {"grant_type": "access_token", "service": registry, "access_token": token}
    try:
        answer = requests.post(f"{url}/oauth2/exchange", data=form, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["refresh_token"])
    except (requests.RequestException, KeyError, ValueError) as error:
        raise RegistryRefused(f"{registry} gave no token: {error}") from error
