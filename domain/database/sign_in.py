"""Signing in to Azure Database for PostgreSQL with a Microsoft Entra identity.

The server takes an access token for a password. Tokens last for about an hour, so each new
connection asks for one; azure-identity keeps it until shortly before its end.

Source: https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-connect-with-managed-identity
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import psycopg

from domain.contracts.redaction import remember_temporary

SCOPE: Final = "https://ossrdbms-aad.database.windows.net/.default"
_AZURE_HOSTS: Final = ".postgres.database.azure.com"

Arguments = dict[str, Any]


def needs_token(conninfo: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether ``conninfo`` names a server on Azure and no password is given for it."""
    on_azure = str(conninfo.get("host") or "").endswith(_AZURE_HOSTS)
    given = {"password", "passfile", "service"} & {key for key, value in conninfo.items() if value}
    return on_azure and not given and not {"PGPASSWORD", "PGPASSFILE"} & environment.keys()


def with_token(arguments: Arguments) -> Callable[[], Awaitable[Arguments]]:
    """A function that a pool calls for the arguments of each connection, with a token as password.

    The identity is the one that `DefaultAzureCredential` finds; ``AZURE_CLIENT_ID`` chooses among
    managed identities.

    The returned function raises:
        psycopg.OperationalError: there is no identity, or it is refused.
    """
    # Imported here: slow, and not needed with a password. The synchronous credential, because the
    # asynchronous one would have to be closed with the pool; it is needed once an hour.
    from azure.core.exceptions import AzureError
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()

    async def fresh() -> Arguments:
        try:
            token = await asyncio.to_thread(credential.get_token, SCOPE)
        except AzureError as error:
            raise psycopg.OperationalError(f"no token for the database: {error.message}") from error
        remember_temporary(token.token)
        return {**arguments, "password": token.token}

    return fresh
