"""Each box has a user ID that no other box of the machine has at the same time."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from sandbox_host.linux.box_users import (
    BUBBLEWRAP_USERS,
    CONFINED_USERS,
    DOCKER_USERS,
    NoUserFree,
    UserRange,
)
from sandbox_host.runtimes.containers.plan import AGENT_UID

#: A range that only this process uses: the real ones are shared by the machine.
_RANGE = UserRange(1_000_000 + os.getpid() * 10, 3)


def test_no_two_boxes_have_the_same_user_until_it_is_given_back() -> None:
    users = [_RANGE.take() for _ in range(_RANGE.count)]
    assert sorted(user.uid for user in users) == [_RANGE.first + n for n in range(_RANGE.count)]
    assert _RANGE.claim(users[1].uid) is None
    with pytest.raises(NoUserFree, match="are all in use"):
        _RANGE.take()
    users[1].close()
    with closing(_RANGE.take()) as again:
        assert again.uid == users[1].uid
    for user in users:
        user.close()


def test_ranges_hold_neither_each_others_users_nor_the_agents() -> None:
    ranges = (BUBBLEWRAP_USERS, CONFINED_USERS, DOCKER_USERS)
    numbers = [uid for one in ranges for uid in range(one.first, one.first + one.count)]
    assert len(set(numbers)) == len(numbers)
    assert AGENT_UID not in numbers
    assert all(uid in one for one in ranges for uid in (one.first, one.first + one.count - 1))
    assert "61000" not in CONFINED_USERS
    # Remapped, a container has 65,536 numbers.
    assert max(*numbers, AGENT_UID) < 65_536
