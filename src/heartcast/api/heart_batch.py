"""Many hearts in one request.

Items are independent: a bad one gets its own problem and the others go on. They take
effect in the order given, so neighbours that want the same go to the store as one
call, and a change of direction starts the next. A body of the wrong shape is refused
as a whole, before anything is written.

With an Idempotency-Key all items go to the store as one call, and are done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import NamedTuple

import msgspec

from heartcast.api.heart_bodies import (
    BatchAnswer,
    BatchBody,
    BatchItem,
    BatchResult,
    encode,
    given_answer,
    removed_answer,
)
from heartcast.api.heart_once import replayed
from heartcast.api.problems import Problem, problem
from heartcast.api.route import Answer, Call, Identity
from heartcast.core.errors import BodyTooLarge, HeartcastError, InvalidInput, StoreUnavailable
from heartcast.hearts.model import HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.service import HeartService
from heartcast.hearts.store import MAX_KEYS

CheckItem = Callable[[BatchItem, Identity, str], HeartKey]
Shadows = Callable[[HeartKey], bool]


class _Asked(NamedTuple):
    at: int
    item: BatchItem
    key: HeartKey
    is_shadowed: bool


# A NamedTuple's own constructor is a Python function: this runs once per item.
_new_tuple = tuple.__new__

_decode_problem = msgspec.json.Decoder(Problem).decode


class Batch:
    """One batch on its way through the store.

    Args:
        late: Items that are refused before they are looked at, by their place.
        shadows: Whether a heart is seen by its giver only; None: none is.
        check: Gives an item's key, or raises what is wrong with it; its last argument
            is the item's JSON pointer.

    Raises:
        InvalidInput: there are no items.
        BodyTooLarge: there are more than 500.
    """

    __slots__ = (
        "_call",
        "_failure",
        "_is_answered_at_once",
        "_late",
        "_results",
        "_service",
        "_shadows",
        "_waiting",
        "_written",
    )

    def __init__(
        self,
        service: HeartService,
        call: Call,
        body: BatchBody,
        late: Mapping[int, HeartcastError],
        shadows: Shadows | None,
    ) -> None:
        if not body.items:
            raise InvalidInput("must not be empty", pointer="/items")
        if len(body.items) > MAX_KEYS:
            raise BodyTooLarge(f"at most {MAX_KEYS} items", pointer="/items", code="too_many_items")
        self._service = service
        self._call = call
        self._late = late
        self._shadows = shadows
        self._results: list[BatchResult | None] = [None] * len(body.items)
        self._waiting = 1
        self._written = 0
        self._failure: StoreUnavailable | None = None
        self._is_answered_at_once = True

    def run(self, body: BatchBody, check: CheckItem, receipt: Receipt | None = None) -> Answer | None:
        """Do all items; the answer, or None when it comes later.

        Args:
            receipt: Of the request, when it is to be done once.
        """
        asked: list[_Asked] = []
        for at, item in enumerate(body.items):
            try:
                asked.append(self._checked(at, item, check))
            except HeartcastError as error:
                self._refuse(at, error)
        if receipt is not None and asked and not any(one.is_shadowed for one in asked):
            self._is_answered_at_once = False
            self._submit_once(receipt, asked)
            return None
        for (op, is_shadowed), group in groupby(asked, key=lambda one: (one.item.op, one.is_shadowed)):
            if is_shadowed:
                for one in group:
                    self._shadow(one)
            else:
                self._submit(op, list(group))
        self._waiting -= 1
        if self._waiting:
            self._is_answered_at_once = False
            return None
        return self._answer()

    def _checked(self, at: int, item: BatchItem, check: CheckItem) -> _Asked:
        key = check(item, self._call.identity, f"/items/{at}")
        if self._late and (error := self._late.get(at)) is not None:
            raise error
        is_shadowed = self._shadows is not None and item.op == "add" and self._shadows(key)
        return _new_tuple(_Asked, (at, item, key, is_shadowed))

    def _shadow(self, one: _Asked) -> None:
        self._waiting += 1
        self._service.add_shadowed(one.key, lambda result: self._note([one], result))

    def _submit(self, op: str, asked: list[_Asked]) -> None:
        def done(result: list[Outcome] | StoreUnavailable) -> None:
            self._note(asked, result)

        self._waiting += 1
        write = self._service.add if op == "add" else self._service.remove
        write([one.key for one in asked], done)

    def _submit_once(self, receipt: Receipt, asked: list[_Asked]) -> None:
        def done(result: Once | InvalidInput | StoreUnavailable) -> None:
            if not isinstance(result, Once):
                self._call.respond(problem(result))
                return
            self._note(asked, result.outcomes)
            answer = self._answer()
            self._call.respond(replayed(answer) if result.is_repeated else answer)

        self._waiting += 1
        self._service.once(receipt, [Step(one.item.op == "add", one.key) for one in asked], done)

    def _note(self, asked: list[_Asked], result: list[Outcome] | StoreUnavailable) -> None:
        if isinstance(result, StoreUnavailable):
            self._failure = result
            for one in asked:
                self._refuse(one.at, result)
        else:
            self._written += len(result)
            for one, outcome in zip(asked, result, strict=True):
                self._results[one.at] = _result(one.item, one.key, outcome)
        self._waiting -= 1
        if self._waiting == 0 and not self._is_answered_at_once:
            self._call.respond(self._answer())

    def _refuse(self, at: int, error: HeartcastError) -> None:
        answer = problem(error)
        self._results[at] = BatchResult(answer.status, problem=_decode_problem(answer.body))

    def _answer(self) -> Answer:
        if self._failure is not None and self._written == 0:
            # Nothing was done: the whole request may be repeated, so say it the plain way.
            return problem(self._failure)
        return Answer(200, encode(BatchAnswer([result for result in self._results if result is not None])))


def _result(item: BatchItem, key: HeartKey, outcome: Outcome) -> BatchResult:
    if item.op == "remove":
        return BatchResult(200, removed_answer(key, item.user_id, outcome))
    assert outcome.heart is not None
    return BatchResult(
        201 if outcome.changed else 200, given_answer(outcome.heart, item.user_id, outcome.count)
    )
