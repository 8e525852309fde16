from typing import Any

import pytest

from kuberpa.robot import Robot
from kuberpa_cli.work.arguments import Request
from kuberpa_cli.work.exits import UsageError
from kuberpa_cli.work.targets import check, offered


def robot(
    name: str = "clerk",
    *,
    offers: list[str] | None = None,
    labels: dict[str, str] | None = None,
    packages: str | None = None,
    connected: bool = True,
) -> Robot:
    body: dict[str, Any] = {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"runtime": {"linuxPod": {}}, "packages": ["invoices==1.0"] if packages else []},
        "status": {"phase": "Idle" if connected else "Pending"},
    }
    if offers is not None:
        agent = {"connected": connected, "definitions": offers, "packages": {"state": packages or "None"}}
        body["status"]["agent"] = agent
    return Robot.of(body)


def test_a_robot_that_offers_the_definition_passes_without_a_word() -> None:
    assert check([robot(offers=["os.command"])], "default", Request("os.command", robot="clerk")) == []


def test_an_unknown_robot_is_refused_with_close_names_and_the_others() -> None:
    robots = [robot("clerk"), robot("cashier")]
    with pytest.raises(UsageError) as refused:
        check(robots, "default", Request("os.command", robot="clerc"))
    assert "There is no robot clerc in namespace default. Did you mean clerk?" in str(refused.value)
    assert "Robots there: cashier, clerk" in str(refused.value)


def test_an_empty_namespace_is_said_to_be_empty() -> None:
    with pytest.raises(UsageError, match=r"no robots in namespace spb.*-n NAMESPACE"):
        check([], "spb", Request("os.command", robot="clerk"))


def test_a_selector_without_match_shows_the_labels_there_are() -> None:
    robots = [robot("clerk", labels={"team": "payroll"}), robot("cashier")]
    with pytest.raises(UsageError) as refused:
        check(robots, "default", Request("os.command", selector={"team": "pay"}))
    assert str(refused.value).splitlines()[1:] == ["  clerk: team=payroll", "  cashier: none"]


def test_an_unknown_definition_is_refused_with_what_the_robot_offers() -> None:
    with pytest.raises(UsageError) as refused:
        check([robot(offers=["os.command", "file.put"])], "default", Request("os.comand", robot="clerk"))
    assert "Robot clerk offers no definition os.comand. Did you mean os.command?" in str(refused.value)
    assert "Offered: file.put, os.command" in str(refused.value)


def test_one_of_the_selected_robots_is_enough() -> None:
    robots = [robot("a", offers=["x"], labels={"t": "p"}), robot("b", offers=["y"], labels={"t": "p"})]
    assert check(robots, "default", Request("y", selector={"t": "p"})) == []


def test_a_definition_that_no_selected_robot_has_is_refused() -> None:
    robots = [robot("a", offers=["x"], labels={"t": "p"}), robot("b", offers=["y"], labels={"t": "p"})]
    with pytest.raises(UsageError, match=r"These 2 robots offer no definition z.*\nOffered: x, y"):
        check(robots, "default", Request("z", selector={"t": "p"}))


def test_a_robot_that_has_not_connected_may_still_offer_anything() -> None:
    notes = check([robot(connected=False)], "default", Request("anything", robot="clerk"))
    assert notes == ["Robot clerk is Pending. The activity waits for it."]


@pytest.mark.parametrize("state", ["Installing", "Failed"])
def test_definitions_are_not_known_before_the_packages_are_installed(state: str) -> None:
    assert offered(robot(offers=["os.command"], packages=state)) is None
    assert offered(robot(offers=["os.command"], packages="Installed")) == frozenset({"os.command"})


def test_a_disconnected_robot_is_mentioned() -> None:
    notes = check([robot(offers=["os.command"], connected=False)], "default", Request("os.command", robot="clerk"))
    assert len(notes) == 1
