"""The base of every resource and wire model: frozen, camelCase outside, snake_case inside."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from kuberpa.names import timestamp


class Model(BaseModel):
    """A frozen value. Unknown fields are dropped, so that an older reader survives a newer writer."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", ser_json_inf_nan="null"
    )

    @classmethod
    def of(cls, body: Any) -> Self:
        """Read from JSON-like data in camelCase. Raises pydantic.ValidationError naming the field."""
        return cls.model_validate(body)

    def to_json(self) -> dict[str, Any]:
        """JSON-like data in camelCase without what is unset (None)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _aware(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("must be an aware time, e.g. 2026-01-31T09:00:00Z")
    return value


Instant = Annotated[datetime, BeforeValidator(_aware), PlainSerializer(timestamp, return_type=str, when_used="json")]
"""An aware datetime, RFC 3339 in JSON."""


def keyed_by(field: str) -> dict[str, Any]:
    """For `json_schema_extra`: a list whose elements are told apart by one field, which is therefore unique."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [field]}


Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""A Kubernetes object name (DNS subdomain)."""
Address = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$",
    ),
]
"""A host name or an IP address, of version 4 or 6."""
