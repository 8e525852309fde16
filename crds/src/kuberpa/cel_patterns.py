"""What to say of a text that does not match: the pattern of every field as a CEL rule with a message of its own."""

from typing import Final

from kuberpa.cel_rule import Rule
from kuberpa.dates import SPAN_PATTERN, TIME_PATTERN


def _pattern(pattern: str, message: str, *, forbids: bool = False) -> tuple[str, Rule]:
    return pattern, Rule(rule=f"self.matches(r'{pattern}')", message=message, forbids=forbids)


PATTERNS: Final = dict(
    (
        _pattern(
            r"^[A-Za-z_][A-Za-z0-9_.-]*$",
            "must be the name of a definition: letters, digits, dots, dashes and underscores, first a letter or "
            "underscore, for example os.command",
        ),
        _pattern(
            r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$",
            "must be a host name or an IP address, for example desk-7.corp.example or 10.0.0.7",
        ),
        _pattern(r"^[A-Z0-9][A-Z0-9.-]*$", "must be the name of a realm in capital letters, for example CORP.EXAMPLE"),
        _pattern(
            r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
            "must be a host, or host:port, for example dc1.corp.example:88",
        ),
        _pattern(
            r"^[^%^&|<>\x22\x00-\x1f]+$",
            "must be a command or a path without quotes and other signs that cmd.exe reads, for example "
            r"C:\Python311\python.exe",
        ),
        _pattern(
            r"^[A-Za-z_][A-Za-z0-9_]*$",
            "must be the name of a parameter: letters, digits and underscores, not first a digit",
        ),
        _pattern(
            r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            "must be the name of a Kubernetes object: lower-case letters, digits, dashes and dots, first and last a "
            "letter or digit",
        ),
        _pattern(
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "must consist of lower-case letters, digits and dashes, first and last a letter or digit",
        ),
        _pattern(
            r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$",
            "must be the name of a time zone, for example Europe/Moscow or UTC",
        ),
        _pattern(TIME_PATTERN, "must be a time of day from 00:00 to 24:00, for example '08:00' (in quotes)"),
        _pattern(
            SPAN_PATTERN, "must be a span of time: weeks, days, hours, minutes, seconds, for example 15m or 1h30m"
        ),
        _pattern(
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
            "must be the name of a namespace: lower-case letters, digits and dashes, first and last a letter or digit",
        ),
        _pattern(r"^([A-Z]{2,3})?$", "must be the ISO 3166 code of a country, for example RU"),
        _pattern(r"^[A-Za-z0-9]*$", "must be the code of a part of the country, for example BY"),
        _pattern(
            r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
            "must be the name of a Calendar: lower-case letters, digits, dashes and dots",
        ),
        _pattern(r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$", "must be a quantity such as 500m, 1, 512Mi or 2Gi"),
        _pattern(
            r"^https?://[^@\s]+$",
            "must be an http or https URL without credentials: put those into a Secret and name it in "
            "packageIndex.credentialsSecretRef",
            forbids=True,
        ),
    )
)
"""What stands for each pattern of the models: the same, and words for people."""
