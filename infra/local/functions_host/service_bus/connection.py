"""Resolves a trigger's ``connection`` to a Service Bus client.

Source: https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#connections
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azure.servicebus.aio import ServiceBusClient

from domain.contracts.amqp_decoding import complete_decoder
from domain.contracts.connections import service_bus_connection, service_bus_namespace
from infra.local.functions_host import settings
from infra.local.functions_host.errors import HostStartupError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential


@dataclass(frozen=True)
class Connection:
    """Either a connection string, or a namespace to which an identity has access."""

    connection_string: str | None = None
    namespace: str | None = None
    client_id: str | None = None
    managed: bool = False

    def client(self) -> ServiceBusClient:
        """Return a client that does not retry by itself; `ServiceBusLink` decides when to."""
        complete_decoder()  # the real host's .NET SDK decodes all AMQP types
        if self.connection_string is not None:
            return ServiceBusClient.from_connection_string(self.connection_string, retry_total=0)
        assert self.namespace is not None
        return ServiceBusClient(self.namespace, self._credential(), retry_total=0)

    def _credential(self) -> AsyncTokenCredential:
        # Imported here, because it takes 0.3 s and a local broker needs no identity.
        from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

        if self.managed:
            return ManagedIdentityCredential(client_id=self.client_id)
        return DefaultAzureCredential(managed_identity_client_id=self.client_id)


def resolve_connection(name: str, environ: Mapping[str, str], where: str) -> Connection:
    """Resolve a connection; HostStartupError names the function and both possible settings."""
    for prefix in (name, f"AzureWebJobs{name}"):
        if text := settings.lookup(prefix, environ):
            return Connection(
                connection_string=_checked(service_bus_connection, text, prefix, where)
            )
        name_of_host = f"{prefix}__fullyQualifiedNamespace"
        if namespace := settings.lookup(name_of_host, environ):
            namespace = _checked(service_bus_namespace, namespace, name_of_host, where)
            credential = settings.lookup(f"{prefix}__credential", environ)
            return Connection(
                namespace=namespace,
                client_id=settings.lookup(f"{prefix}__clientId", environ),
                managed=credential == "managedidentity",
            )
    raise HostStartupError(
        f"{where}, connection: neither the setting {name} (a connection string) nor "
        f"{name}__fullyQualifiedNamespace (for an identity) is set"
    )


def _checked(check: Callable[[str], str], text: str, name: str, where: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise HostStartupError(f"{where}: wrong setting: {name}: {error}") from None
