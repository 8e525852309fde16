"""What can go wrong for a caller, as RFC 9457 problem details; pages render the same values.

Problem
├── SignInRequiredProblem   401
├── ForbiddenProblem        403  names the missing right and who grants it
├── NotFoundProblem         404
├── ConflictProblem         409
├── InvalidProblem          422  one entry a field
├── TooManyProblem          429  says when to try again
└── UnavailableProblem      503
"""

from dataclasses import dataclass
from typing import Any, Final

from kuberpa.client import (
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from kuberpa.queueing import QueueError, QueueErrorCode
from kuberpa_panel.language import _, marked

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: its path (spec.input.kwargs), and what would be right."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Right:
    """A Kubernetes permission."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def where(self) -> str:
        """Where it would have to hold, for people."""
        if not self.namespace:
            return _("in at least one namespace")
        if not self.name:
            return _("in namespace %(namespace)s", namespace=self.namespace)
        return _("in namespace %(namespace)s, for %(name)s", namespace=self.namespace, name=self.name)

    @property
    def granted_by(self) -> str:
        """Who can help, for people."""
        if self.namespace:
            return _(
                "An administrator of namespace %(namespace)s grants it with a Role and a RoleBinding.",
                namespace=self.namespace,
            )
        return _("A cluster administrator grants it with a ClusterRole and a binding.")


class Problem(Exception):  # noqa: N818  RFC 9457's own word
    """A request that was not done, and why."""

    status = 500
    title = marked("Something went wrong")

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        right: Right | None = None,
        retry_after: int | None = None,
        code: str = "",
    ) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.right, self.retry_after = detail, errors, right, retry_after
        self.code = code

    @property
    def kind(self) -> str:
        """The last part of the problem's type."""
        return type(self).__name__.removesuffix("Problem").lower()

    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def to_json(self, request_id: str) -> dict[str, Any]:
        """The body, application/problem+json."""
        body: dict[str, Any] = {
            "type": f"urn:kuberpa:problem:{self.kind}",
            "title": _(self.title),
            "status": self.status,
            "detail": self.detail,
            "requestId": request_id,
        }
        if self.code:
            body["code"] = self.code
        if self.errors:
            body["errors"] = [{"field": error.field, "message": error.message} for error in self.errors]
        if self.right:
            body["missingRight"] = {
                "verb": self.right.verb,
                "resource": self.right.resource,
                "namespace": self.right.namespace,
                "name": self.right.name,
                "grantedBy": self.right.granted_by,
            }
        return body


class SignInRequiredProblem(Problem):
    """No session, and no accepted bearer token."""

    status, title = 401, marked("Sign in first")

    def headers(self) -> dict[str, str]:
        """With the challenge that RFC 9110 asks of a 401."""
        return {"WWW-Authenticate": 'Bearer realm="kuberpa"'}


class ForbiddenProblem(Problem):
    """Kubernetes does not let this user do it."""

    status, title = 403, marked("Not allowed")


class NotFoundProblem(Problem):
    """There is no such object, or none that this user may see."""

    status, title = 404, marked("Not found")


class ConflictProblem(Problem):
    """The object changed meanwhile, or is past that."""

    status, title = 409, marked("Not possible any more")


class InvalidProblem(Problem):
    """The input is wrong; each error names its field."""

    status, title = 422, marked("Check your input")


class TooManyProblem(Problem):
    """Too many attempts."""

    status, title = 429, marked("Too many attempts")


class UnavailableProblem(Problem):
    """Something that the panel needs does not answer now."""

    status, title = 503, marked("Not available right now")


def forbidden(right: Right) -> ForbiddenProblem:
    """Names the missing right and who grants it."""
    return ForbiddenProblem(
        _(
            "You need the right to %(right)s %(where)s. %(granted_by)s",
            right=right,
            where=right.where,
            granted_by=right.granted_by,
        ),
        right=right,
    )


def from_api_error(error: ApiError) -> Problem:
    """What an answer of the API server means for the caller."""
    match error:
        case ForbiddenError():
            return ForbiddenProblem(str(error))
        case NotFoundError():
            return NotFoundProblem(str(error))
        case ConflictError():
            return ConflictProblem(str(error))
        case InvalidError():
            return InvalidProblem(str(error), errors=_causes(error))
        case UnavailableError():
            return UnavailableProblem(_("The Kubernetes API does not answer: %(error)s", error=error), retry_after=5)
        case _:
            return UnavailableProblem(_("The Kubernetes API refused the panel: %(error)s", error=error))


def _causes(error: ApiError) -> tuple[FieldError, ...]:
    causes = error.body.get("details", {}).get("causes") or []
    return tuple(FieldError(cause.get("field", ""), cause.get("message", "")) for cause in causes)


_OF_CODE: Final[dict[QueueErrorCode, type[Problem]]] = {
    QueueErrorCode.UNKNOWN_QUEUE: NotFoundProblem,
    QueueErrorCode.UNKNOWN_ITEM: NotFoundProblem,
    QueueErrorCode.LEASE_LOST: ConflictProblem,
    QueueErrorCode.NOT_POSSIBLE: ConflictProblem,
    QueueErrorCode.DUPLICATE_REFERENCE: ConflictProblem,
    QueueErrorCode.INVALID: InvalidProblem,
    QueueErrorCode.SCHEMA_VIOLATION: InvalidProblem,
    QueueErrorCode.FORBIDDEN: ForbiddenProblem,
    QueueErrorCode.UNAVAILABLE: UnavailableProblem,
}


def of_queue_error(error: QueueError) -> Problem:
    """What a queue's refusal means for the caller; `code` in the body says which one."""
    errors = tuple(FieldError(each.field, each.message) for each in error.errors)
    return _OF_CODE[error.code](error.message, errors=errors, code=error.code)
