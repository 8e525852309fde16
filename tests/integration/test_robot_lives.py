"""Robots whose people change their minds while operator, panel and agents are killed: the last wish comes true."""

import asyncio

import pytest
from tests.support.faults import Night
from tests.support.lives import lived

pytestmark = pytest.mark.timeout(300)


def test_whatever_is_asked_and_killed_the_end_is_what_was_asked_last_and_what_is_reported_is_true(night: Night) -> None:
    lives = asyncio.run(lived(night, changes=48, seed=20261127))
    assert lives.count == 48
