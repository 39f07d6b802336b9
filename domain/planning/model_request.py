"""Requests to a language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from domain.intents.event_parts import CallPurpose
from domain.planning.answers import schema_of
from domain.planning.prompt_files import Prompt

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

Form = TypeVar("Form", bound=BaseModel)
Meaning = TypeVar("Meaning")

#: Tokens around the messages and the schema that are not in their text.
_FRAME_TOKENS = 200

#: How much of an unusable answer is shown to the model again, characters.
_MAX_SHOWN_AGAIN = 20_000


@dataclass(frozen=True, slots=True)
class UnusableAnswer:
    """An answer that could not be used, and why: what a second try is told."""

    answer: str
    problem: str


@dataclass(frozen=True, slots=True)
class ModelRequest(Generic[Form, Meaning]):
    """A request to a language model.

    Attributes:
        data: the case, sent as JSON in the user's message. All that people, programs or models
            wrote is in here, and nowhere else.
        form: the class of the answer.
        understand: turns the answer into its meaning; raises `InvalidAnswer` if it makes no sense.
        wrong: the first answer, if this is the second try.
    """

    purpose: CallPurpose
    prompt: Prompt
    data: Mapping[str, Any]
    form: type[Form]
    understand: Callable[[Form], Meaning]
    wrong: UnusableAnswer | None = None

    def after(self, wrong: UnusableAnswer) -> ModelRequest[Form, Meaning]:
        """The same request after an unusable answer."""
        return replace(self, wrong=wrong)

    def messages(self) -> list[ChatCompletionMessageParam]:
        """The conversation."""
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": self.prompt.text},
            {"role": "user", "content": _json(self.data)},
        ]
        if self.wrong is not None:
            answer = self.wrong.answer[:_MAX_SHOWN_AGAIN] or "(nothing)"
            correction = {
                "your_answer_cannot_be_used": self.wrong.problem,
                "do": "Answer again, whole.",
            }
            messages.append({"role": "assistant", "content": answer})
            messages.append({"role": "user", "content": _json(correction)})
        return messages

    def input_bound(self) -> int:
        """The most input tokens that the request may take.

        Tokenisers that work on bytes make no more tokens than there are bytes (UTF-8). Plain text
        takes about a quarter of that; the difference is reserved only while the call lasts.
        """
        texts = [str(message.get("content")) for message in self.messages()]
        return sum(
            len(text.encode(errors="replace")) for text in (*texts, _json(self.schema()))
        ) + (_FRAME_TOKENS)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the answer."""
        return schema_of(self.form)


def _json(value: object) -> str:
    """``value`` as JSON in ASCII, so that no character in it can pass for anything but data."""
    return json.dumps(value, separators=(",", ":"))
