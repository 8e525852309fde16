"""The chart's ClusterRoles for people, and what kuberpa's own accounts need to give them, as templates."""

import json
import textwrap
from typing import Final

from kuberpa.roles import CLUSTER_ROLES, MEANINGS, RBAC_GROUP, Role, Rule, rules_of, rules_on

HEADER: Final = """\
{{- /* Generated from crds/src/kuberpa/roles.py by `python -m kuberpa.generate`: change that instead.
Roles for people: give them by RobotRoleBindings, or use Kubernetes' view, edit and admin, which receive them. */ -}}
"""
GIVEN_HEADER: Final = """\
{{/* Generated from crds/src/kuberpa/roles.py by `python -m kuberpa.generate`: change that instead. */}}

"""
AGGREGATED: Final = {Role.VIEWER: "view", Role.OPERATOR: "edit", Role.ADMIN: "admin"}
"""Which of Kubernetes' own roles receives the rules of which."""
WORKER: Final = "kuberpa-queue-worker"
WORKER_MEANING: Final = (
    "Take work items, end them, and add new ones. For robots: bind it to the ServiceAccount robot-NAME of one "
    "robot, or to the group system:serviceaccounts:NAMESPACE for all of a namespace; with resourceNames of an own Role "
    "to some queues."
)
WORKER_RULES: Final[list[Rule]] = [
    {"apiGroups": ["kuberpa.dev"], "resources": ["workqueues/items"], "verbs": ["create", "take"]}
]


def role_templates() -> str:
    """The file of all roles."""
    roles = [_template(CLUSTER_ROLES[role], MEANINGS[role], rules_of(role), AGGREGATED.get(role, "")) for role in Role]
    return HEADER + "---\n".join([*roles, _template(WORKER, WORKER_MEANING, WORKER_RULES, "")])


def given_templates() -> str:
    """The file of what is needed to give roles: the API server lets nobody give more than they hold or may bind."""
    on_robots = [
        {key: values for key, values in rule.items() if key != "resourceNames"}
        for rule in rules_on(Role.ADMIN, ["any"])
    ]
    bind: Rule = {
        "apiGroups": [RBAC_GROUP],
        "resources": ["clusterroles"],
        "verbs": ["bind"],
        "resourceNames": list(CLUSTER_ROLES.values()),
    }
    pairs = ", ".join(f"'{role}': '{name}'" for role, name in CLUSTER_ROLES.items())
    return GIVEN_HEADER + "\n".join(
        (
            "{{/* May give the roles for people, and no others. */}}",
            _define("bindRules", "".join(_rule(bind, ""))),
            "{{/* What a role on some robots is made of: the operator holds it in order to give it. */}}",
            _define("givenRules", "".join(_rule(rule, "") for rule in on_robots)),
            "{{/* CEL: the ClusterRole of each role. */}}",
            _define("clusterRoles", f"{{{pairs}}}\n"),
        )
    )


def _define(name: str, text: str) -> str:
    return f'{{{{- define "kuberpa.{name}" -}}}}\n{text}{{{{- end }}}}\n'


def _template(name: str, meaning: str, rules: list[Rule], aggregate: str) -> str:
    aggregation = (
        "    {{- if .Values.rbac.aggregate }}\n"
        f'    rbac.authorization.k8s.io/aggregate-to-{aggregate}: "true"\n'
        "    {{- end }}\n"
        if aggregate
        else ""
    )
    return (
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        "kind: ClusterRole\n"
        "metadata:\n"
        f"  name: {name}\n"
        '  labels: {{- include "kuberpa.labels" . | nindent 4 }}\n'
        f"{aggregation}"
        "  annotations:\n"
        "    kuberpa.dev/description: |-\n"
        f"{textwrap.indent(textwrap.fill(meaning, 110), '      ')}\n"
        "rules:\n"
        f"{''.join(map(_rule, rules))}"
    )


def _rule(rule: Rule, indent: str = "  ") -> str:
    """In flow style: a rule is read at a glance."""
    lines = [f"{key}: [{', '.join(map(_word, values))}]" for key, values in rule.items()]
    return f"{indent}- {lines[0]}\n" + "".join(f"{indent}  {line}\n" for line in lines[1:])


def _word(word: str) -> str:
    return word or json.dumps(word)
