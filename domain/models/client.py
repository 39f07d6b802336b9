"""The client of the OpenAI API, for language and embedding models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential

from domain.contracts.redaction import remember, remember_temporary
from domain.models.settings import ModelSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

#: The OAuth scope of Azure's AI services; see "Microsoft Entra ID authentication" of the v1 API.
_SCOPE = "https://cognitiveservices.azure.com/.default"

#: The most that connecting may take, seconds; the answer has a deadline of its own.
CONNECT_SECONDS = 10.0


def open_client(
    settings: ModelSettings, credential: AsyncTokenCredential | None = None
) -> AsyncOpenAI | None:
    """A client of the configured provider; None if none is configured.

    It never retries by itself: its callers know what a failure costs and how long they can wait.
    Azure is called over its v1 API, which needs no version in the request.

    Args:
        settings: name the provider.
        credential: this application's identity, for Azure without a key.

    Raises:
        ValueError: there is neither a key nor a credential for Azure's endpoint.
    """
    if not settings.provider_configured:
        return None
    remember(settings.openai_api_key, settings.azure_openai_api_key)
    from openai import AsyncOpenAI  # half of a cold start, so only where it is used

    endpoint = settings.azure_openai_endpoint
    if endpoint is None:
        # A local server may need no key, but the library insists on one.
        key = settings.openai_api_key or "none"
        return AsyncOpenAI(api_key=key, base_url=settings.openai_base_url, max_retries=0)
    base_url = f"{endpoint.rstrip('/')}/openai/v1/"
    if settings.azure_openai_api_key:
        return AsyncOpenAI(api_key=settings.azure_openai_api_key, base_url=base_url, max_retries=0)
    if credential is None:
        raise ValueError("AZURE_OPENAI_ENDPOINT needs AZURE_OPENAI_API_KEY or an Azure identity")

    async def fresh_token() -> str:
        token = (await credential.get_token(_SCOPE)).token
        remember_temporary(token)
        return token

    return AsyncOpenAI(api_key=fresh_token, base_url=base_url, max_retries=0)


@asynccontextmanager
async def opened_client(settings: ModelSettings) -> AsyncIterator[AsyncOpenAI | None]:
    """A client with an Azure identity of its own if it needs one; see `open_client`."""
    async with AsyncExitStack() as stack:
        credential = None
        if settings.provider_by_identity:
            credential = await stack.enter_async_context(DefaultAzureCredential())
        client = open_client(settings, credential)
        if client is not None:
            stack.push_async_callback(client.close)
        yield client
