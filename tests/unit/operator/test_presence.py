"""The Lost clock."""

import pytest

from kuberpa_operator.core.presence import Presence

ROBOTS = [("default", f"r{number}") for number in range(10)]


@pytest.fixture
def presence() -> Presence:
    presence = Presence(lost_after=60)
    for robot in ROBOTS:
        presence.observe(robot, 0, connected=True)
    presence.tick(0, panel_alive=True)
    return presence


def wait(presence: Presence, start: int, seconds: int, *, panel_alive: bool = True) -> int:
    for second in range(start + 1, start + seconds + 1):
        presence.tick(second, panel_alive=panel_alive)
    return start + seconds


def test_an_agent_is_lost_after_it_has_been_away_for_so_long(presence: Presence) -> None:
    presence.observe(ROBOTS[0], 0, connected=False)
    now = wait(presence, 0, 59)
    assert presence.lost() == []
    wait(presence, now, 1)
    assert presence.lost() == [ROBOTS[0]]


def test_an_agent_that_comes_back_begins_anew(presence: Presence) -> None:
    presence.observe(ROBOTS[0], 0, connected=False)
    now = wait(presence, 0, 50)
    presence.observe(ROBOTS[0], now, connected=True)
    presence.observe(ROBOTS[0], now, connected=False)
    wait(presence, now, 59)
    assert presence.lost() == []


def test_the_clock_stands_still_while_no_panel_is_alive(presence: Presence) -> None:
    presence.observe(ROBOTS[0], 0, connected=False)
    now = wait(presence, 0, 30)
    now = wait(presence, now, 10_000, panel_alive=False)
    now = wait(presence, now, 29)
    assert presence.lost() == []
    wait(presence, now, 1)
    assert presence.lost() == [ROBOTS[0]]


def test_nobody_is_lost_while_many_have_vanished_together(presence: Presence) -> None:
    for robot in ROBOTS[:4]:
        presence.observe(robot, 0, connected=False)
    assert presence.stands_still(1)
    now = wait(presence, 0, 110)
    assert presence.lost() == []
    wait(presence, now, 20)
    assert presence.lost() == ROBOTS[:4], "a minute later they are taken for what they are"


def test_a_few_of_many_are_no_catastrophe(presence: Presence) -> None:
    for robot in ROBOTS[:3]:
        presence.observe(robot, 0, connected=False)
    assert not presence.stands_still(1), "30 % is not more than 30 %"


def test_two_of_two_are_too_few_to_tell() -> None:
    presence = Presence(lost_after=60)
    for robot in ROBOTS[:2]:
        presence.observe(robot, 0, connected=True)
        presence.observe(robot, 0, connected=False)
    assert not presence.stands_still(1)


def test_those_who_came_back_do_not_count_as_vanished(presence: Presence) -> None:
    for robot in ROBOTS[:4]:
        presence.observe(robot, 0, connected=False)
    presence.observe(ROBOTS[0], 5, connected=True)
    assert not presence.stands_still(6)


def test_agents_that_were_never_seen_connected_have_not_vanished() -> None:
    presence = Presence(lost_after=60)
    for robot in ROBOTS:
        presence.observe(robot, 0, connected=False)
    assert not presence.stands_still(1)


def test_a_robot_that_is_gone_is_not_lost(presence: Presence) -> None:
    presence.observe(ROBOTS[0], 0, connected=False)
    wait(presence, 0, 100)
    presence.forget(ROBOTS[0])
    assert presence.lost() == []
