"""Writes the CustomResourceDefinitions, and the roles of people: `python -m kuberpa.generate [--check]`.

Output: crds/<plural>.yaml for `kubectl apply -f crds/`, and the same with Helm's keep annotation in
helm/kuberpa-crds/templates/; user-roles.yaml and _given.tpl in helm/kuberpa/templates/. `--check` writes nothing and
exits with 1 when a file differs.
"""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from kuberpa.cel import RULES
from kuberpa.cel_patterns import PATTERNS
from kuberpa.kinds import KINDS, Kind
from kuberpa.model import Model
from kuberpa.names import GROUP, VERSION
from kuberpa.role_manifests import given_templates, role_templates
from kuberpa.schema import Schema, at, structural, walk

ROOT: Final = Path(__file__).resolve().parents[3]
HEADER: Final = (
    "# Generated from the models in crds/src/kuberpa by `python -m kuberpa.generate`: change those instead.\n"
)
KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""Uninstalling the chart must not delete every Robot with its CRD."""


def main(arguments: list[str] | None = None) -> int:
    """Write or check every file. Exit code: 0, or 1 for drift."""
    parser = argparse.ArgumentParser(prog="python -m kuberpa.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="root of the source tree")
    options = parser.parse_args(arguments)
    stale = [path for path, text in files(options.root).items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if options.check:
            print(f"{path} differs from the models: run python -m kuberpa.generate", file=sys.stderr)  # noqa: T201
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files(options.root)[path])
    return int(options.check and bool(stale))


def files(root: Path) -> dict[Path, str]:
    """Every generated file with its content."""
    written: dict[Path, str] = {}
    for kind in KINDS:
        written[root / "crds" / f"{kind.plural}.yaml"] = dump(definition(kind))
        written[root / "helm/kuberpa-crds/templates" / f"{kind.plural}.yaml"] = dump(definition(kind, KEEP))
    written[root / "helm/kuberpa/templates/user-roles.yaml"] = role_templates()
    written[root / "helm/kuberpa/templates/_given.tpl"] = given_templates()
    return written


def definition(kind: Kind, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    metadata: dict[str, Any] = {"name": f"{kind.plural}.{GROUP}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata | ({"annotations": annotations} if annotations else {}),
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [] if kind.short_name == kind.name.lower() else [kind.short_name],
                "categories": [GROUP.partition(".")[0]],
            },
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> dict[str, Any]:
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        **({"subresources": {"status": {}}} if _has_status(kind) else {}),
        "schema": {"openAPIV3Schema": schema(kind)},
        "additionalPrinterColumns": [column.to_json() for column in kind.columns],
    }
    if kind.scale:
        paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        version["subresources"] = {"status": {}, "scale": {**paths, "labelSelectorPath": ".status.selector"}}
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return version


def schema(kind: Kind) -> Schema:
    """The whole structural schema of a kind, with its CEL rules."""
    root: Schema = {
        "type": "object",
        "description": inspect.cleandoc(kind.model.__doc__ or ""),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": kind.name},
            "metadata": {"type": "object"},
            "spec": _section(kind, "spec"),
            **({"status": _section(kind, "status")} if _has_status(kind) else {}),
        },
    }
    for _, part in walk(root):
        _explain_pattern(part)
    for path, rules in RULES[kind.name].items():
        at(root, path).setdefault("x-kubernetes-validations", []).extend(rule.to_json() for rule in rules)
    return root


def _has_status(kind: Kind) -> bool:
    """Whether there is anything to observe about its objects."""
    return "status" in kind.model.model_fields


def _section(kind: Kind, name: str) -> Schema:
    field = kind.model.model_fields[name]
    model: type[Model] = field.annotation  # type: ignore[assignment]  # both sections of every kind are models
    return structural(model, defaults=name == "spec") | {"description": field.description}


def _explain_pattern(part: Schema) -> None:
    pattern = part.pop("pattern", None)
    if pattern is not None:
        part["x-kubernetes-validations"] = [PATTERNS[pattern].to_json()]


class _Dumper(yaml.SafeDumper):
    """Block style throughout: texts of several lines stay readable, lists are indented, nothing is an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  pyyaml's signature
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  pyyaml's signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(body: dict[str, Any]) -> str:
    """YAML of one generated object."""
    text = yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, default_flow_style=False)
    return HEADER + text


if __name__ == "__main__":
    sys.exit(main())
