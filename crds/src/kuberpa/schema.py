"""From a pydantic model to a structural OpenAPI v3 schema, as CustomResourceDefinitions want it.

Rules of structural schemas: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE: Final = "x-kubernetes-list-type"

_DROPPED: Final = frozenset({"title", "$defs", "$ref", "anyOf", "default", "additionalProperties", "propertyNames"})
"""Keys that structural schemas do not know, or that are written anew below."""


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """Schema of a model with every reference written out; without `defaults` as status wants it.

    A default stands where it says something: an empty text, list or map is what absence means anyway, and an
    object gets `{}` so that the API server fills in the defaults of its fields. Raises ValueError for what a
    structural schema cannot say.
    """
    document = model.model_json_schema(by_alias=True)
    return _Converter(document.get("$defs", {}), defaults=defaults).convert(document)


class _Converter:
    def __init__(self, definitions: dict[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, node: Schema) -> Schema:
        full = self._resolve(node)
        schema = {key: value for key, value in full.items() if key not in _DROPPED}
        if "description" in schema:
            schema["description"] = str(schema["description"]).strip()
        if "const" in schema:
            schema["enum"] = [schema.pop("const")]
        match full.get("type"):
            case "object":
                self._object(full, schema)
            case "array":
                schema["items"] = self.convert(full["items"])
                schema.setdefault(LIST_TYPE, "atomic")
            case "integer":
                schema["format"] = "int64"
            case None:
                # nullable, or CEL could not compare what holds a null
                schema |= {PRESERVE: True, "nullable": True}
        self._default(full, schema)
        return schema

    def _resolve(self, node: Schema) -> Schema:
        """The node with its reference and its `X or null` written out; what stands at the node itself wins."""
        if "$ref" in node:
            return self._resolve(self._definitions[node["$ref"].rpartition("/")[2]] | _without(node, "$ref"))
        if "anyOf" in node:
            options = [option for option in node["anyOf"] if option.get("type") != "null"]
            if len(options) != 1:
                raise ValueError(f"a structural schema has one type, not {len(options)}: {node}")
            return self._resolve(self._resolve(options[0]) | _without(node, "anyOf"))
        return node

    def _object(self, full: Schema, schema: Schema) -> None:
        if "properties" in full:
            schema["properties"] = {name: self.convert(child) for name, child in full["properties"].items()}
        if isinstance(full.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.convert(full["additionalProperties"])
        elif full.get("additionalProperties"):
            schema[PRESERVE] = True

    def _default(self, full: Schema, schema: Schema) -> None:
        if not self._defaults or full.get("default") is None:
            return
        if schema.get("type") == "object":
            if PRESERVE in schema or any("default" in child for child in schema.get("properties", {}).values()):
                schema["default"] = {}
        elif full["default"] not in ("", []):
            schema["default"] = full["default"]


def _without(node: Schema, key: str) -> Schema:
    return {name: value for name, value in node.items() if name != key}


def at(schema: Schema, path: str) -> Schema:
    """The part of a schema at a path such as `spec.packages[]` (`[]`: the items). Raises KeyError."""
    for step in filter(None, path.replace("[]", ".[]").split(".")):
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return schema


def walk(schema: Schema, path: str = "") -> list[tuple[str, Schema]]:
    """Every part of a schema with its path; the values of a map stand at `{}`."""
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += walk(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        found += walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        found += walk(schema["additionalProperties"], f"{path}{{}}")
    return found
