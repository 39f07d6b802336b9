"""The connection string with which Azure's SDKs reach the broker."""

from __future__ import annotations

KEY_NAME = "RootManageSharedAccessKey"


def connection_string(host: str, port: int, key: str) -> str:
    """What ``ServiceBusClient.from_connection_string`` takes; it contains the shared access key.

    ``UseDevelopmentEmulator=true`` makes the SDKs connect without TLS.
    """
    return (
        f"Endpoint=sb://{host}:{port};SharedAccessKeyName={KEY_NAME};"
        f"SharedAccessKey={key};UseDevelopmentEmulator=true;"
    )
