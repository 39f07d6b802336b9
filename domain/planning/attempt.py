"""The calls of one attempt to plan or to repair: paid for, never made twice at once."""

from __future__ import annotations

from datetime import timedelta

from domain.application.planning import Busy, NoPlan, Postponed
from domain.eventlog.models import InlineWrite
from domain.intents.event_parts import FailureCause, ModelCall
from domain.planning.budgets import Exhausted, HeldElsewhere, Reservation, TokenBudgets
from domain.planning.language_model import LanguageModel, Reply
from domain.planning.model_request import Form, Meaning, ModelRequest, UnusableAnswer
from domain.planning.remedies import cause_of

#: A worker has this long, beside its call, until another may take its place.
_LEASE_MARGIN = timedelta(seconds=15)

#: Calls in progress end soon; then what they did not use is there again.
_BUDGET_RETRY = timedelta(seconds=5)

#: Of these, another try later may help.
_PASSING = frozenset({"rate_limited", "unavailable", "timed_out"})


class Unanswered(Exception):
    """A request has no answer; ``result`` is what the attempt comes to."""

    def __init__(self, result: NoPlan | Postponed | Busy) -> None:
        super().__init__(type(result).__name__)
        self.result = result


class Attempt:
    """Asks a model on a tenant's budget, and keeps the record of the calls.

    What the next call may take at most is set aside before it, beside what those before took.
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
        """What charges the calls, for the transaction that records them."""
        return self._reservation.settle(self._spent) if self._calls else []

    @property
    def _spent(self) -> int:
        return sum(call.input_tokens + call.output_tokens for call in self._calls)

    async def ask(self, request: ModelRequest[Form, Meaning]) -> Meaning:
        """The meaning of the answer; one that makes no sense may be mended once, at once.

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
        f"The language model's budget of {exhausted.budget} tokens for today does not suffice: "
        f"{exhausted.used} are used, {exhausted.reserved} set aside for calls in progress, and "
        f"this may take up to {exhausted.wanted}. It starts anew at "
        f"{exhausted.resets_at:%Y-%m-%d %H:%M} UTC; an operator can raise it. "
        "An intent with a program needs none."
    )
