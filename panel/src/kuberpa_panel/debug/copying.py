"""What the form means, for other tools: a manifest, Python, a shell. None of them holds a token."""

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from kuberpa.names import API_VERSION

WIDTH = 100


def as_manifest(namespace: str, spec: Mapping[str, Any]) -> str:
    """For `kubectl create -f -`, which makes a new one each time."""
    prefix = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(spec["def"]).lower()).strip("-")[:40]
    body = {
        "apiVersion": API_VERSION,
        "kind": "ActivityItem",
        "metadata": {"generateName": f"{prefix.strip('-') or 'activity'}-", "namespace": namespace},
        "spec": dict(spec),
    }
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=WIDTH)


def as_python(namespace: str, spec: Mapping[str, Any]) -> str:
    """By kuberpa.orchestrator, which is what robots' programmers use."""
    given = spec.get("input") or {}
    lines = [f"    {namespace!r},", f"    {spec['def']!r},"]
    lines += [f"    {_literal(each)}," for each in given.get("args") or []]
    if "robotRef" in spec:
        lines.append(f"    robot={spec['robotRef']['name']!r},")
    else:
        lines.append(f"    selector={_literal(spec['robotSelector']['matchLabels'])},")
    if given.get("kwargs"):
        lines.append(f"    kwargs={_literal(given['kwargs'])},")
    rest = {key: spec[key] for key in spec if key not in {"def", "input", "robotRef", "robotSelector"}}
    if rest:
        lines.append(f"    **{_literal(rest)},")
    call = "\n".join(f"        {line}" for line in "\n".join(lines).split("\n"))
    return (
        "import asyncio\nimport os\n\nfrom kuberpa.orchestrator import Orchestrator\n\n\n"
        "async def main():\n"
        '    async with Orchestrator(os.environ["KUBERPA_URL"], os.environ["KUBERPA_TOKEN"]) as orchestrator:\n'
        f"        print(await orchestrator.activity_run(\n{call}\n        ))\n\n\n"
        "asyncio.run(main())\n"
    )


def as_curl(url: str, namespace: str, spec: Mapping[str, Any]) -> str:
    """A request to the panel's API."""
    body = json.dumps({"namespace": namespace, "spec": dict(spec)}, ensure_ascii=False)
    return (
        f"curl -X POST {shlex.quote(url + '/api/v1/activities')} \\\n"
        '  -H "Authorization: Bearer $KUBERPA_TOKEN" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  --data {shlex.quote(body)}\n"
    )


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=WIDTH - 20, sort_dicts=False).replace("\n", "\n    ")
