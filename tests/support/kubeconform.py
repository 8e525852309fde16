"""kubeconform with the schemas of the API server that the test runs, and of the kinds that it does not know by itself.

Its own schemas come from GitHub as of some release; these are what this server publishes under /openapi/v2.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tests.support import gotools
from tests.support.cluster import REPOSITORY, Cluster

_PREFIX: Final = "#/definitions/"
_EITHER: Final = {"oneOf": [{"type": "string"}, {"type": "number"}]}
"""IntOrString and Quantity: the published schemas say string, the server takes numbers too."""
_LENIENT: Final = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")
_FOREIGN: Final = REPOSITORY / "tests/support/prometheus_operator"
Body = dict[str, Any]


@dataclass(frozen=True)
class Kubeconform:
    """Judges bodies; the answer counts the valid, the invalid, errors and those without a schema."""

    binary: Path
    schemas: Path

    def __call__(self, bodies: list[Body]) -> dict[str, int]:
        location = f"{self.schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        command = [str(self.binary), "-strict", "-summary", "-output", "json", "-schema-location", location, "-"]
        run = subprocess.run(command, check=False, input=yaml.safe_dump_all(bodies), capture_output=True, text=True)
        answer = json.loads(run.stdout)
        if answer.get("resources"):
            print(json.dumps(answer["resources"], indent=1))
        return dict(answer["summary"])


def prepared(cluster: Cluster, folder: Path) -> Kubeconform:
    """kubeconform with a schema for every kind of this server."""
    published = json.loads(cluster.kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    definitions = {name: _strict(body) for name, body in published.items()} | dict.fromkeys(_LENIENT, _EITHER)
    for name, body in published.items():
        for gvk in body.get("x-kubernetes-group-version-kind", []):
            file = folder / f"{'-'.join([gvk['kind'], *_suffix(gvk['group'], gvk['version'])]).lower()}.json"
            used = _closure(definitions, name)
            file.write_text(json.dumps({"$ref": f"{_PREFIX}{name}", "definitions": {n: definitions[n] for n in used}}))
    for path in _FOREIGN.glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            suffix = "-".join([crd["names"]["kind"], *_suffix(crd["group"], version["name"])]).lower()
            schema = {
                "properties": {"apiVersion": {}, "kind": {}, "metadata": {}},
                **version["schema"]["openAPIV3Schema"],
            }
            schema["properties"]["metadata"] = {"type": "object"}
            (folder / f"{suffix}.json").write_text(json.dumps(_strict(schema)))
    return Kubeconform(gotools.built(gotools.KUBECONFORM)["kubeconform"], folder)


def _suffix(group: str, version: str) -> list[str]:
    """As kubeconform names files: the group's first part and the version."""
    return [group.split(".", maxsplit=1)[0], version] if group else [version]


def _strict(node: Any) -> Any:
    """The schema without OpenAPI's own words, refusing what it does not name."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return _EITHER
    kept = {
        # names of properties are no words of a schema: one of them may be called format
        key: {name: _strict(each) for name, each in value.items()} if key == "properties" else _strict(value)
        for key, value in node.items()
        if not key.startswith("x-kubernetes-") and key != "format"
    }
    if "properties" in kept and not node.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept


def _closure(definitions: dict[str, Any], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [ref.removeprefix(_PREFIX) for ref in _references(definitions[name])]
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [ref for each in node for ref in _references(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [ref for value in node.values() for ref in _references(value)]
