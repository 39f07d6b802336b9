"""Builds the planner out of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg_pool import AsyncConnectionPool

from domain.models.settings import ModelSettings
from domain.planning.budgets import TokenBudgets
from domain.planning.language_model import LanguageModel
from domain.planning.planner import Planner
from domain.planning.solved import SolvedIntents
from domain.planning.writer import Writer

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def make_planner(
    settings: ModelSettings,
    client: AsyncOpenAI | None,
    pool: AsyncConnectionPool,
    solved: SolvedIntents,
) -> Planner:
    """The planner; without a language model where none is configured."""
    writer = None
    if client is not None and settings.llm_model is not None:
        model = LanguageModel(client, settings.llm_model, settings)
        budgets = TokenBudgets(pool, settings.llm_tokens_per_day)
        writer = Writer(model, budgets, settings.llm_repairs)
    return Planner(solved, writer, settings.reuse_similarity)
