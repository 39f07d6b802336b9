"""Settings of the host, read from the environment and checked at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain.messaging.envelope import describe
from sandbox_host.images.build import DEFAULT_IMAGE

RuntimeName = Literal["docker", "bubblewrap"]

_CONNECTION = "ServiceBusConnection"
_NAMESPACE = "ServiceBusConnection__fullyQualifiedNamespace"
_QueueName = Annotated[str, Field(min_length=1, max_length=260)]


class InvalidSettings(ValueError):
    """A setting is missing or wrong; the message names it and says what it may be."""


class Settings(BaseModel):
    """What the environment may set; names of the variables are the aliases.

    Attributes:
        connection: connection string of the Service Bus namespace.
        namespace: its host name, when an Azure identity is used instead.
        concurrency: programs that run at once.
        runtimes: in the order in which they are tried.
        drain_seconds: how long running programs may go on after SIGTERM.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    connection: str | None = Field(default=None, alias=_CONNECTION, repr=False)
    namespace: str | None = Field(default=None, alias=_NAMESPACE)
    jobs_queue: _QueueName = Field(default="sandbox-jobs", alias="QLP_SANDBOX_JOBS_QUEUE")
    results_queue: _QueueName = Field(default="sandbox-results", alias="QLP_SANDBOX_RESULTS_QUEUE")
    concurrency: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=256,
        alias="QLP_SANDBOX_CONCURRENCY",
    )
    runtimes: tuple[RuntimeName, ...] = Field(
        default=("docker", "bubblewrap"), min_length=1, alias="QLP_SANDBOX_RUNTIMES"
    )
    image: str = Field(
        default=DEFAULT_IMAGE, min_length=1, max_length=255, alias="QLP_SANDBOX_IMAGE"
    )
    drain_seconds: float = Field(default=20.0, ge=0, le=3600, alias="QLP_SANDBOX_DRAIN_SECONDS")
    health_host: str = Field(default="127.0.0.1", min_length=1, alias="QLP_SANDBOX_HEALTH_HOST")
    health_port: int = Field(default=8081, ge=0, le=65535, alias="QLP_SANDBOX_HEALTH_PORT")

    @field_validator("runtimes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _has_bus(self) -> Self:
        if not self.connection and not self.namespace:
            raise ValueError(
                f"set {_CONNECTION} to the connection string of the Service Bus namespace,"
                f" or {_NAMESPACE} to its host name to use an Azure identity"
            )
        if self.connection and "Endpoint=" not in self.connection:
            raise ValueError(
                f"{_CONNECTION} is not a connection string; it looks like"
                " Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; an empty variable counts as unset.

        Raises:
            InvalidSettings: names the first wrong variable.
        """
        try:
            return cls.model_validate({key: value for key, value in environment.items() if value})
        except ValidationError as error:
            raise InvalidSettings(describe(error)) from None
