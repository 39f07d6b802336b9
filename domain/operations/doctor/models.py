"""Examines the provider of language models, without any call that costs money."""

from __future__ import annotations

import asyncio

from azure.core.exceptions import AzureError

from domain.models.client import opened_client
from domain.models.settings import ModelSettings
from domain.operations.doctor.findings import Finding
from domain.planning.failures import failure_of

_NAME = "language model"
_SECONDS = 10.0


async def examine_models(settings: ModelSettings) -> list[Finding]:
    """Whether the provider answers, accepts the key and has the model."""
    model = settings.llm_model
    if model is None:
        detail = "none is configured: a new sentence needs a program"
        return [Finding(_NAME, "ok", detail)]
    async with opened_client(settings) as client:
        if client is None:
            return []
        import openai  # takes half of the command's start-up time: only if a model is configured

        try:
            async with asyncio.timeout(_SECONDS):
                await client.models.retrieve(model, timeout=_SECONDS)
        except openai.NotFoundError:
            return [_unlisted(settings, model)]
        except (openai.OpenAIError, AzureError, TimeoutError) as error:
            failure = failure_of(error)
            return [Finding(_NAME, "fail", f"{model}: {failure.detail}", _fix(failure.outcome))]
    return [Finding(_NAME, "ok", f"the provider has {model}")]


def _unlisted(settings: ModelSettings, model: str) -> Finding:
    if settings.azure_openai_endpoint:
        # Azure lists models, but is asked for deployments, whose names it does not list.
        return Finding(_NAME, "ok", f"the provider answers; {model} is assumed to be a deployment")
    fix = "check QLP_LLM_MODEL, and OPENAI_BASE_URL if it is set"
    return Finding(_NAME, "warn", f"the provider answers, but does not list {model}", fix)


def _fix(outcome: str) -> str:
    if outcome == "rejected":
        return "check OPENAI_API_KEY or AZURE_OPENAI_API_KEY, or the identity's role"
    return (
        "check OPENAI_BASE_URL or AZURE_OPENAI_ENDPOINT, DNS and firewall; meanwhile planning waits"
    )
