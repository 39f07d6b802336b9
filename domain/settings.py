"""Settings of the application, from the environment (on Azure: app settings)."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from domain.contracts.connections import (
    connection_setting,
    database_url,
    seal_anchor,
    seal_signer,
    service_bus_connection,
    service_bus_namespace,
)
from domain.contracts.redaction import remember_all
from domain.models.settings import HttpUrl, InvalidSettings, ModelSettings
from domain.runs.tokens import MIN_KEY_BYTES, RunTokens
from domain.sealing.places import is_url


def _key(value: object) -> object:
    """The bytes of a key in base64, standard or URL-safe."""
    if not isinstance(value, str):
        return value
    try:
        padded = value + "=" * (-len(value) % 4)
        key = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64; make one with: openssl rand -base64 32") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"must be {MIN_KEY_BYTES} bytes or more; openssl rand -base64 32")
    return key


__all__ = ["InvalidSettings", "Settings", "database_setting"]

Key = Annotated[bytes, BeforeValidator(_key)]
DatabaseUrl = Annotated[str, AfterValidator(database_url)]
BusConnection = Annotated[str, AfterValidator(service_bus_connection)]
BusNamespace = Annotated[str, AfterValidator(service_bus_namespace)]
SealSigner = Annotated[str, AfterValidator(seal_signer)]
SealAnchor = Annotated[str, AfterValidator(seal_anchor)]


def database_setting(name: str = "DATABASE_URL") -> str | None:
    """A database URL from this process's environment; None if it is not set.

    Raises:
        InvalidSettings: names it and what is wrong, never its value.
    """
    remember_all(os.environ)
    try:
        return connection_setting(os.environ, name)
    except ValueError as error:
        raise InvalidSettings(str(error)) from None


class Settings(ModelSettings):
    """Everything the application reads from its environment; settings of models are in the base.

    Attributes:
        database_url: PostgreSQL connection string; its login must be a member of ``qlp_app``.
        database_admin_url: connection string of the tables' owner. If it is set, pending migrations
            are applied at start; if not, an outdated schema is an error that says what to run.
        database_pool_size: connections per worker process. Instances × processes × this must
            stay under the server's ``max_connections``. The relay and the projections may each
            hold one while they need another, so fewer than six could stall.
        service_bus_connection: connection string, or
        service_bus_namespace: fully qualified namespace, reached with a managed identity.
        announce_every_event: whether events that call for no step of the application are announced
            on the topic as well, for those who subscribe to it.
        sandbox_url: where the sandbox host's health can be read; optional.
        stalled_after_seconds: an intent that makes no progress for this long is published again.
        run_token_key: signs the tokens with which the sandbox host reports on its runs; base64.
            Without it, runs have no live output and no artifacts beyond what fits into a message,
            and are not killed before their deadline.
        run_token_key_previous: also accepted, while the key is being changed.
        seal_signer: the key that signs seals of the log: the path of a PEM file, or
            ``https://NAME.vault.azure.net/keys/NAME``. Without it, anybody who can write to the
            database can make seals.
        seal_anchor: where seals are kept as well: the path of a file, or a container
            (``https://NAME.blob.core.windows.net/NAME``) out of reach of the database's owner.
        artifact_days: how long the contents of artifacts are kept, days.
    """

    database_url: DatabaseUrl = Field(alias="DATABASE_URL", repr=False)
    database_admin_url: DatabaseUrl | None = Field(
        default=None, alias="DATABASE_ADMIN_URL", repr=False
    )
    database_pool_size: int = Field(default=8, ge=6, le=100, alias="QLP_DATABASE_POOL_SIZE")
    service_bus_connection: BusConnection | None = Field(
        default=None, alias="ServiceBusConnection", repr=False
    )
    service_bus_namespace: BusNamespace | None = Field(
        default=None, alias="ServiceBusConnection__fullyQualifiedNamespace"
    )
    intents_queue: str = Field(default="intents", alias="QLP_INTENTS_QUEUE")
    events_topic: str = Field(default="intent-events", alias="QLP_EVENTS_TOPIC")
    events_subscription: str = Field(default="process-manager", alias="QLP_EVENTS_SUBSCRIPTION")
    jobs_queue: str = Field(default="sandbox-jobs", alias="QLP_SANDBOX_JOBS_QUEUE")
    results_queue: str = Field(default="sandbox-results", alias="QLP_SANDBOX_RESULTS_QUEUE")
    announce_every_event: bool = Field(default=False, alias="QLP_ANNOUNCE_EVERY_EVENT")
    sandbox_url: HttpUrl | None = Field(default=None, alias="QLP_SANDBOX_URL")
    stalled_after_seconds: float = Field(
        default=60, ge=1, le=86_400, alias="QLP_STALLED_AFTER_SECONDS"
    )
    run_token_key: Key | None = Field(default=None, alias="QLP_RUN_TOKEN_KEY", repr=False)
    run_token_key_previous: Key | None = Field(
        default=None, alias="QLP_RUN_TOKEN_KEY_PREVIOUS", repr=False
    )
    seal_signer: SealSigner | None = Field(default=None, alias="QLP_SEAL_SIGNER")
    seal_anchor: SealAnchor | None = Field(default=None, alias="QLP_SEAL_ANCHOR", repr=False)
    artifact_days: int = Field(default=30, ge=1, le=3650, alias="QLP_ARTIFACT_DAYS")

    @model_validator(mode="after")
    def _one_way_to_the_bus(self) -> Self:
        if not self.service_bus_connection and not self.service_bus_namespace:
            raise ValueError(
                "set ServiceBusConnection (a connection string) or "
                "ServiceBusConnection__fullyQualifiedNamespace (with a managed identity)"
            )
        return self

    @property
    def bus_by_identity(self) -> bool:
        """Whether Service Bus is reached with the application's Azure identity."""
        return not self.service_bus_connection

    @property
    def needs_identity(self) -> bool:
        """Whether something is reached with the application's Azure identity."""
        return (
            self.bus_by_identity
            or self.provider_by_identity
            or is_url(self.seal_signer)
            or is_url(self.seal_anchor)
        )

    @property
    def run_tokens(self) -> RunTokens:
        """Issues and checks the tokens of runs."""
        keys = (self.run_token_key, self.run_token_key_previous)
        return RunTokens([key for key in keys if key is not None])
