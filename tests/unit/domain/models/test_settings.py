from __future__ import annotations

import pytest

from domain.models.settings import ModelSettings
from domain.similarity.models import wanted_model


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"QLP_LLM_MODEL": "m"}, "QLP_LLM_MODEL needs a provider"),
        ({"QLP_EMBEDDING_MODEL": "m"}, "QLP_EMBEDDING_MODEL needs a provider"),
        ({"AZURE_OPENAI_ENDPOINT": "https://a", "OPENAI_API_KEY": "k"}, "not both"),
        ({"OPENAI_API_KEY": "k", "QLP_EMBEDDING_DIMENSIONS": 3072}, "QLP_EMBEDDING_DIMENSIONS"),
        ({"OPENAI_API_KEY": "k", "QLP_EMBEDDING_MODEL": "a model"}, "QLP_EMBEDDING_MODEL"),
    ],
)
def test_what_cannot_work_is_refused_and_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ModelSettings.model_validate(given)


def test_keys_are_not_shown() -> None:
    settings = ModelSettings.model_validate({"OPENAI_API_KEY": "sesame"})
    assert settings.provider_configured
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "lexical-v1"),
        ({"OPENAI_API_KEY": "k"}, "text-embedding-ada-002"),
        ({"AZURE_OPENAI_ENDPOINT": "https://a"}, "text-embedding-ada-002"),
        # A server of one's own has the models that it was given.
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "lexical-v1"),
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "QLP_EMBEDDING_MODEL": "org/bge:q8"},
            "org/bge:q8",
        ),
        (
            {
                "OPENAI_API_KEY": "k",
                "QLP_EMBEDDING_MODEL": "text-embedding-3-large",
                "QLP_EMBEDDING_DIMENSIONS": 1024,
            },
            "text-embedding-3-large@1024",
        ),
        ({"QLP_EMBEDDING_MODEL": "lexical-v1"}, "lexical-v1"),
        ({"OPENAI_API_KEY": "k", "QLP_EMBEDDING_MODEL": "lexical-v1"}, "lexical-v1"),
    ],
)
def test_the_embedding_model_that_is_asked_for(given: dict[str, object], wanted: str) -> None:
    assert wanted_model(ModelSettings.model_validate(given)) == wanted


def test_nothing_is_configured_by_default() -> None:
    assert not ModelSettings().provider_configured
