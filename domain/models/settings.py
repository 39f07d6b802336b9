"""Settings of models behind an OpenAI API: OpenAI's, Azure's, or that of a compatible server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from domain.contracts.connections import api_key, http_url
from domain.contracts.redaction import remember_all
from domain.contracts.validation import detail, location, matching

#: The embedding model that needs no provider.
LEXICAL: Final = "lexical-v1"

#: ADR-002's model: 1536 dimensions.
DEFAULT_EMBEDDING_MODEL: Final = "text-embedding-ada-002"

_MODEL_NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,119}",
    "must be the name of a model: up to 120 letters, digits, '.', '_', ':', '/' and '-'",
)


ApiKey = Annotated[str, AfterValidator(api_key)]
HttpUrl = Annotated[str, AfterValidator(http_url)]


class InvalidSettings(ValueError):
    """A setting is missing or wrong; the message names it and the fix, never its value."""


class ModelSettings(BaseModel):
    """Where language and embedding models are, which are used, and what they may cost.

    Attributes:
        openai_api_key: for OpenAI, or the server at `openai_base_url`.
        openai_base_url: another server with an OpenAI API, such as ``http://127.0.0.1:8080/v1``.
        azure_openai_endpoint: ``https://NAME.openai.azure.com``; model names are then names of
            deployments. Without a key, the managed identity is used.
        azure_openai_api_key: the key of that account.
        llm_model: writes programs; without it, an intent needs a program, or a sentence that was
            solved before.
        llm_timeout_seconds: the most that one call may take; it is then tried again later.
        llm_stream: stream answers, so that a lost connection is noticed at once.
        llm_output_tokens: the most tokens of one answer.
        llm_repairs: how often a failed program is given back to the model for repair.
        llm_tokens_per_day: the default of what a tenant may use in a UTC day.
        llm_input_price, llm_output_price: USD per million tokens, for the recorded cost.
        reuse_similarity: cosine similarity from which a tenant's solved intent may be reused for
            an intent that allows it, if the model confirms that both ask for the same.
        embedding_model: turns sentences into vectors. By default `DEFAULT_EMBEDDING_MODEL` with
            OpenAI or Azure, and `LEXICAL` without a provider or with `openai_base_url`, whose
            models are not known.
        embedding_dimensions: requested from models that can shorten their vectors; at most 1536.
        embedding_price: USD per million tokens.
    """

    model_config = ConfigDict(frozen=True)

    openai_api_key: ApiKey | None = Field(default=None, alias="OPENAI_API_KEY", repr=False)
    openai_base_url: HttpUrl | None = Field(default=None, alias="OPENAI_BASE_URL")
    azure_openai_endpoint: HttpUrl | None = Field(default=None, alias="AZURE_OPENAI_ENDPOINT")
    azure_openai_api_key: ApiKey | None = Field(
        default=None, alias="AZURE_OPENAI_API_KEY", repr=False
    )
    llm_model: str | None = Field(default=None, alias="QLP_LLM_MODEL")
    llm_timeout_seconds: float = Field(default=60, ge=1, le=600, alias="QLP_LLM_TIMEOUT_SECONDS")
    llm_stream: bool = Field(default=True, alias="QLP_LLM_STREAM")
    llm_output_tokens: int = Field(default=8_000, ge=256, le=128_000, alias="QLP_LLM_OUTPUT_TOKENS")
    llm_repairs: int = Field(default=2, ge=0, le=10, alias="QLP_LLM_REPAIRS")
    llm_tokens_per_day: int = Field(
        default=1_000_000, ge=0, le=10**12, alias="QLP_LLM_TOKENS_PER_DAY"
    )
    llm_input_price: float = Field(default=0, ge=0, le=10_000, alias="QLP_LLM_INPUT_PRICE")
    llm_output_price: float = Field(default=0, ge=0, le=10_000, alias="QLP_LLM_OUTPUT_PRICE")
    reuse_similarity: float = Field(default=0.95, ge=0, le=1, alias="QLP_REUSE_SIMILARITY")
    embedding_model: Annotated[str, _MODEL_NAME] | None = Field(
        default=None, alias="QLP_EMBEDDING_MODEL"
    )
    embedding_dimensions: int | None = Field(
        default=None, ge=1, le=1536, alias="QLP_EMBEDDING_DIMENSIONS"
    )
    embedding_price: float = Field(default=0, ge=0, le=10_000, alias="QLP_EMBEDDING_PRICE")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings; empty values count as not set.

        Raises:
            InvalidSettings: names every wrong setting, never its value.
        """
        source = os.environ if environment is None else environment
        remember_all(source)
        try:
            return cls.model_validate({key: value for key, value in source.items() if value})
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            wrong = (f"{'.'.join(location(p['loc'])) or 'settings'}: {detail(p)}" for p in problems)
            raise InvalidSettings("; ".join(wrong)) from None

    @property
    def provider_configured(self) -> bool:
        """Whether a provider is configured."""
        return bool(self.openai_api_key or self.openai_base_url or self.azure_openai_endpoint)

    @property
    def provider_by_identity(self) -> bool:
        """Whether the provider is Azure, reached with the Azure identity: no key is set."""
        return bool(self.azure_openai_endpoint and not self.azure_openai_api_key)

    @property
    def wanted_embedding(self) -> tuple[str, int | None]:
        """Name and dimensions of the configured embedding model."""
        if self.embedding_model:
            return self.embedding_model, self.embedding_dimensions
        if not self.provider_configured or self.openai_base_url:
            return LEXICAL, None
        return DEFAULT_EMBEDDING_MODEL, self.embedding_dimensions

    @model_validator(mode="after")
    def _one_provider(self) -> Self:
        if self.azure_openai_endpoint and (self.openai_base_url or self.openai_api_key):
            raise ValueError(
                "set AZURE_OPENAI_ENDPOINT, or OPENAI_API_KEY and OPENAI_BASE_URL, not both"
            )
        if not self.provider_configured:
            wanting = {
                "QLP_LLM_MODEL": self.llm_model,
                "QLP_EMBEDDING_MODEL": self.wanted_embedding[0] != LEXICAL,
            }
            if missing := [name for name, value in wanting.items() if value]:
                raise ValueError(
                    f"{missing[0]} needs a provider: set OPENAI_API_KEY, OPENAI_BASE_URL "
                    "or AZURE_OPENAI_ENDPOINT"
                )
        return self
