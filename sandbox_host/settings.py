"""The host's settings, read from the environment and checked at the start."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from domain.contracts.connections import (
    private_http_url,
    service_bus_connection,
    service_bus_namespace,
)
from domain.contracts.redaction import remember_all
from domain.contracts.validation import describe, matching

#: After the drain: for killing programs and returning their jobs, and for removing all boxes.
HAND_BACK_SECONDS, REMOVE_SECONDS = 10.0, 10.0
#: What a host takes at most to stop, beyond its drain; whoever stops it waits for longer than both.
STOP_SECONDS = HAND_BACK_SECONDS + REMOVE_SECONDS + 2.0

RuntimeName = Literal["oci", "docker", "bubblewrap", "sessions", "confined"]

#: Name of the docker runtime's image for each language.
DEFAULT_IMAGES = "qlp-sandbox-{language}:1"

_CONNECTION = "ServiceBusConnection"
_NAMESPACE = "ServiceBusConnection__fullyQualifiedNamespace"
_SESSIONS = "QLP_SANDBOX_SESSIONS_ENDPOINT"
_MIB = 1024**2
_RUNTIME_NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
    "must be the name of a runtime: up to 64 letters, digits, '_', '.' and '-'",
)
_BusConnection = Annotated[str, AfterValidator(service_bus_connection)]
_BusNamespace = Annotated[str, AfterValidator(service_bus_namespace)]
#: A URL to which tokens are sent, so it must be private.
_PrivateUrl = Annotated[str, AfterValidator(private_http_url)]
_QueueName = Annotated[str, Field(min_length=1, max_length=260)]


def _cpus() -> int:
    """How many CPUs this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class InvalidSettings(ValueError):
    """A setting is missing or invalid; the message names it and says what is valid."""


class Settings(BaseModel):
    """Settings from the environment; the variables' names are the fields' aliases.

    Attributes:
        connection: connection string of the Service Bus namespace.
        namespace: its host name, if an Azure identity is used instead.
        concurrency: programs that run at once.
        memory_bytes: for all running programs together; None derives it from this machine.
        runtimes: in the order in which they are tried.
        images: name of each language's image, with ``{language}`` in it.
        engine_runtime: name of an OCI runtime for oci and docker, such as ``runsc``.
        pool_memory_bytes: for all waiting boxes; None derives it from this machine.
        app_url: base URL of the application's HTTP API, without ``/api``.
        sessions_endpoint: management endpoint of a session pool of type ``PythonLTS``.
        canary_seconds: how long a runtime is trusted without a successful run.
        drain_seconds: how long running programs may continue after SIGTERM.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    connection: _BusConnection | None = Field(default=None, alias=_CONNECTION, repr=False)
    namespace: _BusNamespace | None = Field(default=None, alias=_NAMESPACE)
    jobs_queue: _QueueName = Field(default="sandbox-jobs", alias="QLP_SANDBOX_JOBS_QUEUE")
    results_queue: _QueueName = Field(default="sandbox-results", alias="QLP_SANDBOX_RESULTS_QUEUE")
    concurrency: int = Field(
        default_factory=_cpus,
        ge=1,
        le=256,
        alias="QLP_SANDBOX_CONCURRENCY",
    )
    memory_bytes: int | None = Field(
        default=None, ge=16 * _MIB, le=2**50, alias="QLP_SANDBOX_MEMORY_BYTES"
    )
    runtimes: tuple[RuntimeName, ...] = Field(
        default=("docker", "bubblewrap"), min_length=1, alias="QLP_SANDBOX_RUNTIMES"
    )
    images: str = Field(
        default=DEFAULT_IMAGES, min_length=1, max_length=255, alias="QLP_SANDBOX_IMAGES"
    )
    engine_runtime: Annotated[str, _RUNTIME_NAME] | None = Field(
        default=None, alias="QLP_SANDBOX_ENGINE_RUNTIME"
    )
    pool_memory_bytes: int | None = Field(
        default=None, ge=0, le=2**50, alias="QLP_SANDBOX_POOL_MEMORY_BYTES"
    )
    app_url: _PrivateUrl | None = Field(default=None, max_length=500, alias="QLP_SANDBOX_APP_URL")
    sessions_endpoint: _PrivateUrl | None = Field(default=None, max_length=500, alias=_SESSIONS)
    canary_seconds: float = Field(
        default=300.0, ge=1, le=86_400, alias="QLP_SANDBOX_CANARY_SECONDS"
    )
    drain_seconds: float = Field(default=20.0, ge=0, le=3600, alias="QLP_SANDBOX_DRAIN_SECONDS")
    health_host: str = Field(default="127.0.0.1", min_length=1, alias="QLP_SANDBOX_HEALTH_HOST")
    health_port: int = Field(default=8081, ge=0, le=65535, alias="QLP_SANDBOX_HEALTH_PORT")

    @field_validator("runtimes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        return value

    @field_validator("images")
    @classmethod
    def _by_language(cls, value: str) -> str:
        if "{language}" not in value:
            raise ValueError(f"must contain {{language}}, as in {DEFAULT_IMAGES}")
        return value

    @model_validator(mode="after")
    def _has_bus(self) -> Self:
        if not self.connection and not self.namespace:
            raise ValueError(
                f"set {_CONNECTION} to the connection string of the Service Bus namespace,"
                f" or {_NAMESPACE} to its host name to use an Azure identity"
            )
        return self

    @model_validator(mode="after")
    def _has_session_pool(self) -> Self:
        if "sessions" in self.runtimes and not self.sessions_endpoint:
            raise ValueError(
                "QLP_SANDBOX_RUNTIMES names sessions:"
                f" set {_SESSIONS} to the session pool's management endpoint"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; an empty variable counts as unset.

        Raises:
            InvalidSettings: names the first invalid variable.
        """
        remember_all(environment)
        try:
            return cls.model_validate({key: value for key, value in environment.items() if value})
        except ValidationError as error:
            raise InvalidSettings(describe(error)) from None
