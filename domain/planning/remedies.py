"""The causes of failure after calls of a language model, each with what would help."""

from __future__ import annotations

from domain.intents.event_parts import CallOutcome, FailureCause, ModelCall

NOT_CONFIGURED = FailureCause(
    code="planner_not_configured",
    message=(
        "No program was submitted, no solved intent with this text may be reused, and no language "
        "model is configured to write one. Submit the intent with a program; or, to have programs "
        "written, an operator sets QLP_LLM_MODEL and a provider: OPENAI_API_KEY, OPENAI_BASE_URL "
        "or AZURE_OPENAI_ENDPOINT."
    ),
)

_MESSAGES: dict[CallOutcome, tuple[str, str]] = {
    "invalid": (
        "model_answer_invalid",
        "The language model's answers could not be used. Say it differently, or "
        "submit the intent with a program.",
    ),
    "truncated": (
        "model_answer_truncated",
        "The language model's answer is longer than it may be. Ask for less at once; or an "
        "operator raises QLP_LLM_OUTPUT_TOKENS.",
    ),
    "refused": (
        "model_refused",
        "The language model, or its provider's content filter, refused. Say it differently, or "
        "submit the intent with a program.",
    ),
    "rejected": (
        "model_rejected",
        "The language model's provider does not accept the request. An operator checks {check}.",
    ),
    "rate_limited": (
        "model_rate_limited",
        "The language model's provider takes no more requests for now. Submit the intent again "
        "later; or an operator raises the quota there.",
    ),
    "unavailable": (
        "model_unavailable",
        "The language model's provider cannot be reached, or fails. Submit the intent again later.",
    ),
    "timed_out": (
        "model_timed_out",
        "The language model did not answer in time. Submit the intent again later; or an operator "
        "raises QLP_LLM_TIMEOUT_SECONDS.",
    ),
}

_CHECKS = {
    "HTTP 401": "the key: OPENAI_API_KEY, or AZURE_OPENAI_API_KEY",
    "HTTP 403": (
        "what the key or the identity may do; on Azure it needs the role Cognitive Services "
        "OpenAI User"
    ),
    "HTTP 404": (
        "QLP_LLM_MODEL, on Azure the name of a deployment, and OPENAI_BASE_URL or "
        "AZURE_OPENAI_ENDPOINT"
    ),
}
_CHECK = (
    "that QLP_LLM_MODEL takes structured outputs (response_format json_schema), that "
    "QLP_LLM_OUTPUT_TOKENS is no more than it can write, and that it can stream, or "
    "QLP_LLM_STREAM is false"
)


def cause_of(call: ModelCall) -> FailureCause:
    """The intent's cause of failure after a call without a usable answer."""
    code, message = _MESSAGES[call.outcome]
    detail = call.detail or ""
    message = message.format(check=_CHECKS.get(detail[:8], _CHECK))
    return FailureCause(code=code, message=f"{message} ({detail})" if detail else message)
