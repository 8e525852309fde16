from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from kuberpa.meta import ObjectMeta
from kuberpa.model import Model

SETTINGS_NAME: Final = "kuberpa"
"""Of the one GSettings, in kuberpa's own namespace, whose spec.settings count."""
MAX_CUSTOM_BYTES: Final = 256 * 1024
"""Of spec.custom; an admission policy measures it."""


class LogLevel(StrEnum):
    """From which level on a process logs."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class PanelLanguage(StrEnum):
    """Languages that the panel speaks."""

    ENGLISH = "en"
    RUSSIAN = "ru"


class OperatorTuning(Model):
    """Settings of the operator."""

    log_level: Annotated[
        LogLevel | None,
        Field(description="From which level on the operator logs; without it as its environment says."),
    ] = None
    max_finished_activities: Annotated[
        int,
        Field(
            ge=0,
            le=20_000,
            description="Finished ActivityItems that stay in the cluster at most; the oldest go first, and all of them "
            "stay in the panel's history.",
        ),
    ] = 5000
    relist_seconds: Annotated[
        int,
        Field(ge=30, le=3600, description="How often everything is listed anew, for what a watch may have missed."),
    ] = 300


class Sessions(Model):
    """How long people stay signed in."""

    idle_minutes: Annotated[
        int, Field(ge=5, le=10_080, description="Minutes without a request after which a session ends.")
    ] = 120
    max_minutes: Annotated[
        int, Field(ge=5, le=43_200, description="Minutes after which a session ends, whatever happens.")
    ] = 720


class PanelTuning(Model):
    """Settings of the panel."""

    log_level: Annotated[
        LogLevel | None,
        Field(description="From which level on the panel logs; without it as its environment says."),
    ] = None
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$",
            description="Zone in which times are shown to browsers that do not tell theirs, for example Europe/Moscow.",
        ),
    ] = "UTC"
    language: Annotated[
        PanelLanguage,
        Field(description="Language of pages for browsers that ask for none of those that the panel speaks."),
    ] = PanelLanguage.ENGLISH
    refresh_milliseconds: Annotated[
        int,
        Field(ge=50, le=10_000, description="How long changes are gathered before an open page is told of them."),
    ] = 250
    sessions: Annotated[Sessions, Field(description="How long people stay signed in.")] = Sessions()


class LogRetention(Model):
    """For how many days the log keeps lines, by their level. Whole days are dropped, in UTC."""

    debug_days: Annotated[int, Field(ge=1, le=365, description="Days for which lines of level DEBUG stay.")] = 7
    info_days: Annotated[int, Field(ge=1, le=365, description="Days for which lines of level INFO stay.")] = 30
    warning_days: Annotated[int, Field(ge=1, le=365, description="Days for which lines of level WARNING stay.")] = 90
    error_days: Annotated[
        int, Field(ge=1, le=365, description="Days for which lines of levels ERROR and CRITICAL stay.")
    ] = 90


class Retention(Model):
    """How long the panel's database keeps what is past: for ever without a number, but for lines of the log."""

    activity_days: Annotated[
        int | None,
        Field(ge=1, le=3650, description="Days after their end for which activities stay, with their results."),
    ] = None
    logs: Annotated[LogRetention, Field(description="For how many days the log keeps lines, by their level.")] = (
        LogRetention()
    )
    firing_days: Annotated[
        int | None, Field(ge=1, le=3650, description="Days for which the firings of Schedules stay.")
    ] = None
    audit_days: Annotated[
        int | None,
        Field(
            ge=30,
            le=36_500,
            description="Days for which entries of the audit trail stay. Those that go are sealed: what remains is "
            "checked from the seal on.",
        ),
    ] = None


class LogTuning(Model):
    """Settings of the log."""

    mask_patterns: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
        Field(
            max_length=50,
            description="Regular expressions (Python's) of what agents mask in output and results, beside the values "
            "of the robot's Secrets: the groups of each match, all of it without groups. They hold for activities that "
            "start from then on; one that is no regular expression masks nothing.",
        ),
    ] = (
        r"(?i)\bbearer\s+([\w.~+/=-]{8,})",
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
        r"(?i)\b(?:password|passwd|pwd)\s*[=:]\s*(\S+)",
    )


class StorageLimits(Model):
    """What a robot may keep in its storage."""

    max_bytes: Annotated[
        int, Field(ge=1024, le=1_048_576, description="Bytes of JSON that one robot's document may have.")
    ] = 262_144


class Settings(Model):
    """Settings of operator and panel. They take effect within seconds; no process is restarted for them."""

    operator: Annotated[OperatorTuning, Field(description="Settings of the operator.")] = OperatorTuning()
    panel: Annotated[PanelTuning, Field(description="Settings of the panel.")] = PanelTuning()
    retention: Annotated[Retention, Field(description="How long the panel's database keeps what is past.")] = (
        Retention()
    )
    logs: Annotated[LogTuning, Field(description="Settings of the log.")] = LogTuning()
    storage: Annotated[StorageLimits, Field(description="What a robot may keep in its storage.")] = StorageLimits()


class GSettingsSpec(Model):
    """What is editable of the GSettings tree."""

    settings: Annotated[
        Settings | None,
        Field(
            description="Settings of operator and panel. Only in the GSettings named kuberpa in kuberpa's own "
            "namespace; what is left out has its default."
        ),
    ] = None
    custom: Annotated[
        dict[str, Any],
        Field(
            description="A free tree, shown at custom/NAMESPACE/NAME of the GSettings tree and handed to activities "
            "that ask for it. At most 262144 bytes; no place for secrets."
        ),
    ] = {}


class GSettings(Model):
    """The editable part of GSettings: settings of operator and panel, and free trees.

    Activities, pages and clients see it within the whole tree, see docs/gsettings.md. For example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: GSettings
        metadata: {name: invoices}
        spec:
          custom:
            suppliers: {limit: 5000, blocked: [acme]}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[GSettingsSpec, Field(description="What is editable of the GSettings tree.")]
