"""The calls of one attempt to plan or to repair: within the budget, never made twice at once."""

from __future__ import annotations

from datetime import timedelta

from domain.application.planning import Busy, NoPlan, Postponed
from domain.eventlog.models import InlineWrite
from domain.intents.event_parts import FailureCause, ModelCall
from domain.planning.budgets import Exhausted, HeldElsewhere, Reservation, TokenBudgets
from domain.planning.language_model import LanguageModel, Reply
from domain.planning.model_request import Form, Meaning, ModelRequest, UnusableAnswer
from domain.planning.remedies import cause_of

#: How long a worker has, besides its call, until another may take its place.
_LEASE_MARGIN = timedelta(seconds=15)

#: When to try again if calls in progress hold the budget: they end soon, and give back what they
#: did not use.
_BUDGET_RETRY = timedelta(seconds=5)

#: Outcomes after which another try later may help.
_PASSING = frozenset({"rate_limited", "unavailable", "timed_out"})


class Unanswered(Exception):
    """A request has no usable answer; ``result`` is that of the attempt."""

    def __init__(self, result: NoPlan | Postponed | Busy) -> None:
        super().__init__(type(result).__name__)
        self.result = result


class Attempt:
    """Asks a model on a tenant's budget, and keeps the record of the calls.

    Before each call, the most that it may use is reserved, in addition to what the calls before it
    used.
    """

    def __init__(
        self, model: LanguageModel, budgets: TokenBudgets, reservation: Reservation
    ) -> None:
        self._model = model
        self._budgets = budgets
        self._reservation = reservation
        self._calls: list[ModelCall] = []

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The calls made so far."""
        return tuple(self._calls)

    @property
    def writes(self) -> list[InlineWrite]:
        """The writes that charge the calls, for the transaction that records them."""
        return self._reservation.settle(self._spent) if self._calls else []

    @property
    def _spent(self) -> int:
        return sum(call.input_tokens + call.output_tokens for call in self._calls)

    async def ask(self, request: ModelRequest[Form, Meaning]) -> Meaning:
        """The meaning of the answer; after an invalid one, the model is asked once more at once.

        Raises:
            Unanswered: there is none.
        """
        reply = await self._call(request)
        if reply.call.outcome == "invalid" and reply.text:
            wrong = UnusableAnswer(reply.text, reply.call.detail or "")
            reply = await self._call(request.after(wrong))
        if reply.meaning is not None:
            return reply.meaning
        cause = cause_of(reply.call)
        if reply.call.outcome in _PASSING:
            raise Unanswered(Postponed(cause, reply.retry_after, self.calls, self.writes))
        raise Unanswered(NoPlan(cause, self.calls, self.writes))

    async def _call(self, request: ModelRequest[Form, Meaning]) -> Reply[Meaning]:
        wanted = self._spent + self._model.bound(request)
        lease = self._model.longest_call + _LEASE_MARGIN
        match await self._budgets.reserve(self._reservation, wanted, lease):
            case HeldElsewhere():
                raise Unanswered(Busy())
            case Exhausted() as exhausted:
                raise Unanswered(self._out_of_budget(exhausted))
        reply = await self._model.ask(request)
        self._calls.append(reply.call)
        return reply

    def _out_of_budget(self, exhausted: Exhausted) -> NoPlan | Postponed:
        cause = FailureCause(code="token_budget_exhausted", message=_message(exhausted))
        if exhausted.for_now:
            return Postponed(cause, _BUDGET_RETRY, self.calls, self.writes)
        return NoPlan(cause, self.calls, self.writes)


def _message(exhausted: Exhausted) -> str:
    return (
        f"The language model's budget of {exhausted.budget} tokens for today is not enough: "
        f"{exhausted.used} are used, {exhausted.reserved} are reserved for calls in progress, and "
        f"this call may take up to {exhausted.wanted}. The next day's budget begins at "
        f"{exhausted.resets_at:%Y-%m-%d %H:%M} UTC; an operator can raise it. "
        "An intent with a program needs none."
    )
