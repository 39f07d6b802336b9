"""Deadlines and numbers that are taken back take no memory."""

from __future__ import annotations

from infra.local.servicebus.broker.deadlines import Deadlines, ReadyQueue


def test_deadlines_that_are_taken_back_take_no_memory() -> None:
    deadlines = Deadlines()
    for key in range(10_000):
        deadlines.set(key, key + 5)
        deadlines.set(key, key + 9)
        deadlines.set(key, None)
    assert len(deadlines._heap) < 100
    deadlines.set(1, 7)
    assert (deadlines.pop_due(6), deadlines.pop_due(7), deadlines.pop_due(8)) == (None, 1, None)


def test_numbers_that_left_the_queue_take_no_memory() -> None:
    queue = ReadyQueue()
    for number in range(10_000):
        queue.add(number)
        queue.discard(number)
    assert (len(queue), queue.first()) == (0, None)
    assert len(queue._heap) < 100
