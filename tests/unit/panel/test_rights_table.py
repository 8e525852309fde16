"""What the panel asks about and what roles give are the same: read from its code, held against the table of roles."""

import ast
from collections.abc import Iterator
from pathlib import Path

import kuberpa_panel
from kuberpa.definition_rights import DEFINITION_RIGHTS
from kuberpa.kinds import KINDS
from kuberpa.roles import GRANTS, RBAC_GROUP, Role, rights_of
from kuberpa_panel.api.access import ON_ROBOT
from kuberpa_panel.api.audit import RIGHT as AUDIT
from kuberpa_panel.gsettings.projection import RIGHTS as SECTIONS
from kuberpa_panel.web.robots import REMOTE

SOURCES = sorted(Path(kuberpa_panel.__file__).parent.rglob("*.py"))
ASKING = {"Right", "Allowed", "Visible", "scope_of"}
ASKED_BY_KUBECTL = {"update", "patch", "create", "delete", "deletecollection", "watch", "get", "list"}
"""Verbs of the API server itself: it asks about them, and so do policies."""
READ = {"get", "list", "watch"}
PLURALS = {kind.plural for kind in KINDS}


def literals(path: Path) -> Iterator[tuple[str, str]]:
    """Verb and resource of every right that the code spells out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in ASKING:
            continue
        words = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if len(words) >= 2 and words[1].partition("/")[0] in {*PLURALS, "sessions", "audit", "logs"}:
            yield words[0], words[1]


def asked() -> set[tuple[str, str]]:
    found = {right for path in SOURCES for right in literals(path)}
    found |= set(SECTIONS) | set(REMOTE.values()) | {AUDIT}
    found |= {("create", f"robots/{right}") for right in DEFINITION_RIGHTS.values()}
    seeing = {right for right in found if right[1] in ON_ROBOT and (right[1] != "activityitems" or right[0] in READ)}
    return found | {(verb, ON_ROBOT[resource]) for verb, resource in seeing}


def test_the_code_is_read() -> None:
    assert {("get", "robots"), ("create", "robots/run"), ("list", "robots"), ("patch", "schedules")} <= asked()


def test_every_right_that_the_panel_asks_about_is_in_a_role() -> None:
    assert sorted(asked() - rights_of(Role.ADMIN)) == []


def test_no_role_has_a_right_that_nobody_asks_about() -> None:
    told = asked() | {("watch", "robots/activities")}
    queues = {(verb, "workqueues/items") for verb in ("get", "list", "create", "take", "requeue", "delete")}
    left = {
        (verb, grant.resource)
        for grant in GRANTS
        if grant.group != RBAC_GROUP
        for verb in grant.verbs
        if not (grant.resource in {*PLURALS, "robotfleets/scale"} and verb in ASKED_BY_KUBECTL)
    }
    assert sorted(left - told - queues) == []
