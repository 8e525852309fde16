from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kuberpa.model import Instant, Model, keyed_by

MAX_ENDS = 64


class RestartPolicy(StrEnum):
    """When a program that has ended is started again."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class EnvVar(Model):
    """One variable of a program's environment."""

    name: Annotated[
        str,
        Field(
            max_length=256,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Name of the variable.",
        ),
    ]
    value: Annotated[
        str, Field(max_length=32_768, description="Its value. No place for secrets: those are mounted by spec.secrets.")
    ] = ""


class CrashLoop(Model):
    """When a program is not started any more."""

    limit: Annotated[
        int, Field(ge=1, le=MAX_ENDS, description="So many ends by itself within the window are too many.")
    ] = 5
    window_seconds: Annotated[int, Field(ge=1, le=86_400, description="How long an end counts.")] = 600


class Program(Model):
    """A long-running program that is kept in the robot's desired state."""

    command: Annotated[
        tuple[Annotated[str, Field(max_length=32_768)], ...],
        Field(min_length=1, max_length=256, description="The program and its arguments, without a shell."),
    ]
    working_directory: Annotated[
        str, Field(max_length=4096, description="Where it runs; relative to the robot's files folder.")
    ] = ""
    env: Annotated[
        tuple[EnvVar, ...],
        Field(max_length=128, json_schema_extra=keyed_by("name"), description="Added to the robot's environment."),
    ] = ()
    restart_policy: Annotated[
        RestartPolicy,
        Field(
            description="What follows when it ends by itself: Always starts it again, OnFailure only after an exit "
            "code other than 0, Never not. The wait before a start doubles with each end, from 1 s up to 5 min."
        ),
    ] = RestartPolicy.ALWAYS
    crash_loop: Annotated[
        CrashLoop,
        Field(
            description="When it has ended too often the robot is in phase CrashLoop, until spec.program changes or a "
            "person stops, pauses or restarts the robot."
        ),
    ] = CrashLoop()


class ProgramStatus(Model):
    """What the operator knows of the robot's program."""

    fingerprint: Annotated[str, Field(max_length=64, description="Of spec.program, as it is acted upon.")] = ""
    number: Annotated[int, Field(ge=0, description="How often it was started.")] = 0
    ended: Annotated[int, Field(ge=0, description="Number of the last start whose end was dealt with.")] = 0
    item: Annotated[
        str, Field(max_length=253, description="ActivityItem of the last start: its log and its result.")
    ] = ""
    ends: Annotated[
        tuple[Instant, ...], Field(max_length=MAX_ENDS, description="When it ended by itself, within the window.")
    ] = ()
    next_start_at: Annotated[Instant | None, Field(description="It is not started before.")] = None
    done: Annotated[bool, Field(description="Its restart policy starts it no more.")] = False
    crash_loop: Annotated[bool, Field(description="It has ended too often.")] = False
    message: Annotated[str, Field(max_length=4096, description="How it ended last.")] = ""
