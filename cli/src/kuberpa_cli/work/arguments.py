"""From words on the command line to an ActivityItem. Everything here is pure but `read_input`.

A value is JSON when it is valid JSON, else text. What begins like a JSON array or object but is none is refused
rather than passed as text, since `os.command` would take such text for a shell command.
"""

import json
import math
import re
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from kuberpa.activity import MAX_INPUT_BYTES, ActivityItemSpec
from kuberpa.client import Body
from kuberpa.model import Name
from kuberpa_cli.work.exits import UsageError

SUFFIX_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own for generateName: no vowels, no look-alikes (apimachinery util/rand)."""
SUFFIX_LENGTH: Final = 5
NAME_BASE_MAX: Final = 57
"""With dash and suffix the 63 characters of a DNS label."""
INT64_MAX: Final = 2**63 - 1

_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def parse_value(text: str, where: str) -> Any:
    """JSON when it is valid JSON, else the text. Raises UsageError for broken arrays and objects.

    Numbers that the API server could not keep exactly (integers beyond 64 bits, such as account numbers) stay text;
    inside an array or object they are refused.
    """
    _check_text(text, where)
    try:
        return json.loads(text, parse_int=_exact_int, parse_float=_finite_float, parse_constant=_no_constant)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    except ValueError as error:
        if text.lstrip()[:1] not in {"[", "{"}:
            return text
        raise UsageError(
            f"{where} begins like JSON but is not valid: {error}\n"
            f'In most shells single quotes keep it together: \'["echo", "hi"]\'. '
            f"To pass it as text, make it a JSON string: '{json.dumps(text, ensure_ascii=False)}'"
        ) from None


def parse_kwargs(words: Iterable[str]) -> dict[str, Any]:
    """`name=VALUE` words as an object, each VALUE as `parse_value` reads it."""
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f'--kwarg {word}: write name=VALUE, e.g. --kwarg cwd=/tmp or --kwarg \'env={{"A": "1"}}\'')
        if name in kwargs:
            raise UsageError(f"--kwarg {name} is given twice")
        kwargs[name] = parse_value(value, f"--kwarg {name}")
    return kwargs


def parse_selector(words: Iterable[str]) -> dict[str, str]:
    """`key=value` words, also comma-separated, as matchLabels."""
    labels: dict[str, str] = {}
    for pair in (pair for word in words for pair in word.split(",")):
        key, equals, value = pair.strip().partition("=")
        value = value.removeprefix("=")
        prefix, slash, base = key.rpartition("/")
        valid_key = _LABEL.fullmatch(base) and (not slash or _is_name(prefix))
        if not equals or not valid_key or (value and not _LABEL.fullmatch(value)):
            raise UsageError(f"--selector {pair}: write key=value, e.g. --selector team=payroll")
        if labels.setdefault(key, value) != value:
            raise UsageError(f"--selector {key} is given twice with different values, which no robot can match")
    return labels


def parse_duration(text: str, where: str) -> int:
    """Seconds of `90`, `90s`, `5m`, `1h30m`."""
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{where} {text}: write seconds or a duration, e.g. 90, 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def read_input(source: str) -> dict[str, Any]:
    """The whole of spec.input from a JSON file, or from standard input for `-`."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--input {source}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--input {source}: not UTF-8 at byte {error.start}") from None
    if len(text) > MAX_INPUT_BYTES * 4:
        raise too_large(len(text))
    value = parse_value(text, f"--input {source}")
    if not isinstance(value, dict):
        raise UsageError(f'--input {source}: must be an object, e.g. {{"args": [1], "kwargs": {{"name": "x"}}}}')
    return value


def build_input(args: Sequence[str], kwargs: Sequence[str], source: str | None) -> dict[str, Any]:
    """spec.input from words, or from a file. Raises UsageError naming what is wrong, or that it is too large."""
    if source is None:
        value: dict[str, Any] = {}
        if args:
            value["args"] = [parse_value(text, f"argument {number}") for number, text in enumerate(args, 1)]
        if kwargs:
            value["kwargs"] = parse_kwargs(kwargs)
    elif args or kwargs:
        raise UsageError("Give either --input or arguments, not both")
    else:
        value = read_input(source)
        _check_shape(value)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_INPUT_BYTES:
        raise too_large(size)
    return value


def too_large(size: int) -> UsageError:
    """For an input over MAX_INPUT_BYTES."""
    return UsageError(
        f"spec.input is too large: {size:,} bytes of JSON, at most {MAX_INPUT_BYTES:,} are allowed.\n"
        "Put large data where the robot can read it and pass its path; the definition file.put sends a file in parts."
    )


@dataclass(frozen=True)
class Request:
    """What `kuberpa run` was asked for, as words already understood."""

    definition: str
    robot: str | None = None
    selector: dict[str, str] | None = None
    input: dict[str, Any] | None = None
    async_: bool = False
    timeout_seconds: int | None = None
    priority: int | None = None
    debug: bool = False
    """Whether it waits for a debugger."""

    def to_spec(self) -> Body:
        """The spec with nothing in it that has a default. Raises UsageError naming the field."""
        if bool(self.robot) == bool(self.selector):
            raise UsageError("Say where to run: either --robot NAME or --selector key=value")
        spec: Body = {"def": self.definition}
        if self.robot:
            spec["robotRef"] = {"name": self.robot}
        if self.selector:
            spec["robotSelector"] = {"matchLabels": self.selector}
        if self.input:
            spec["input"] = self.input
        if self.async_:
            spec["async"] = True
        if self.debug:
            spec["debug"] = {}
        if self.timeout_seconds is not None:
            spec["timeoutSeconds"] = self.timeout_seconds
        if self.priority is not None:
            spec["priority"] = self.priority
        try:
            ActivityItemSpec.of(spec)
        except ValidationError as error:
            raise UsageError("\n".join(_field_errors(error))) from None
        return spec


def generate_name(definition: str) -> str:
    """`os.command` → `os-command-x7k2p`: what generateName would give, known before the request is sent."""
    base = re.sub(r"[^a-z0-9]+", "-", definition.lower())[:NAME_BASE_MAX].strip("-") or "item"
    return f"{base}-{''.join(secrets.choice(SUFFIX_ALPHABET) for _ in range(SUFFIX_LENGTH))}"


def check_name(text: str, what: str) -> str:
    """The text, when it can be the name of an object. Raises UsageError."""
    if not _is_name(text):
        raise UsageError(f"{what} {text!r}: a name has lower-case letters, digits, '-' and '.', as in os-command-x7k2p")
    return text


def activity_name(text: str) -> str:
    """The name in `NAME`, `activityitem/NAME` or `ai/NAME`, as kubectl prints and takes it."""
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower() not in {"activityitem", "activityitems", "activityitem.kuberpa.dev", "ai"}:
        raise UsageError(f"{text}: this command takes activities, e.g. activityitem/{name or 'NAME'}; not {kind}")
    return check_name(name, "activity")


def robot_name(text: str) -> str:
    """The name in `NAME`, `robot/NAME` or `robot.kuberpa.dev/NAME`, as kubectl prints and takes it."""
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower() not in {"robot", "robots", "robot.kuberpa.dev"}:
        raise UsageError(f"{text}: this command takes robots, e.g. robot/{name or 'NAME'}; not {kind}")
    return check_name(name, "robot")


def _is_name(text: str) -> bool:
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True


def _field_errors(error: ValidationError) -> Iterable[str]:
    for each in error.errors():
        field = ".".join(["spec", *(str(part) for part in each["loc"])])
        yield f"{field}: {each['msg']}; got {str(each['input'])[:100]!r}"


def _check_shape(value: dict[str, Any]) -> None:
    for key, kind, name in (("args", list, "a list"), ("kwargs", dict, "an object")):
        if key in value and not isinstance(value[key], kind):
            raise UsageError(f"spec.input.{key}: must be {name}")
    if unknown := sorted(value.keys() - {"args", "kwargs"}):
        raise UsageError(f"spec.input.{unknown[0]}: unknown field; there are args (a list) and kwargs (an object)")


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where} is not valid UTF-8") from None


def _exact_int(text: str) -> int:
    digits = text.lstrip("-")
    if len(digits) > len(str(INT64_MAX)) or int(digits) > INT64_MAX:
        raise ValueError(f"the number {text[:40]} is too large to be kept exactly; put it in quotes")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
