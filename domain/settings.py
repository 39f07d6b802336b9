"""Settings of the application, from the environment (on Azure: app settings)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class InvalidSettings(ValueError):
    """A setting is missing or wrong; the message names it and the fix."""


class Settings(BaseModel):
    """Everything the application reads from its environment.

    Attributes:
        database_url: PostgreSQL connection string; its login must be a member of ``qlp_app``.
        database_admin_url: of the tables' owner. Where set, pending migrations are applied at
            start; where not, a schema that is behind is an error that says what to run.
        database_pool_size: connections per worker process. Instances × processes × this must
            stay under the server's ``max_connections``. The relay, the projections and the sealer
            may each hold one while they need another, so fewer than six could stall.
        service_bus_connection: connection string, or
        service_bus_namespace: fully qualified namespace, reached with a managed identity.
        sandbox_url: where the sandbox host's health can be read; optional.
        stalled_after_seconds: an intent that makes no progress for this long is published again.
    """

    model_config = ConfigDict(frozen=True)

    database_url: str = Field(alias="DATABASE_URL", min_length=1)
    database_admin_url: str | None = Field(default=None, alias="DATABASE_ADMIN_URL")
    database_pool_size: int = Field(default=8, ge=6, le=100, alias="QLP_DATABASE_POOL_SIZE")
    service_bus_connection: str | None = Field(default=None, alias="ServiceBusConnection")
    service_bus_namespace: str | None = Field(
        default=None, alias="ServiceBusConnection__fullyQualifiedNamespace"
    )
    intents_queue: str = Field(default="intents", alias="QLP_INTENTS_QUEUE")
    events_topic: str = Field(default="intent-events", alias="QLP_EVENTS_TOPIC")
    events_subscription: str = Field(default="process-manager", alias="QLP_EVENTS_SUBSCRIPTION")
    jobs_queue: str = Field(default="sandbox-jobs", alias="QLP_SANDBOX_JOBS_QUEUE")
    results_queue: str = Field(default="sandbox-results", alias="QLP_SANDBOX_RESULTS_QUEUE")
    sandbox_url: str | None = Field(default=None, alias="QLP_SANDBOX_URL")
    stalled_after_seconds: float = Field(
        default=60, ge=1, le=86_400, alias="QLP_STALLED_AFTER_SECONDS"
    )

    @model_validator(mode="after")
    def _one_way_to_the_bus(self) -> Self:
        if not self.service_bus_connection and not self.service_bus_namespace:
            raise ValueError(
                "set ServiceBusConnection (a connection string) or "
                "ServiceBusConnection__fullyQualifiedNamespace (with a managed identity)"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings; empty values count as not set.

        Raises:
            InvalidSettings: names every wrong setting, never its value.
        """
        source = os.environ if environment is None else environment
        try:
            return cls.model_validate({key: value for key, value in source.items() if value})
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            raise InvalidSettings(
                "; ".join(
                    f"{'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg']}" for p in problems
                )
            ) from None
