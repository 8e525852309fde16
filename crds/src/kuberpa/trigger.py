from typing import Annotated, Any

from pydantic import Field

from kuberpa.activity import ActivityItemSpec, DefinitionName, Retry, StopPolicy
from kuberpa.meta import Labels, LabelSelector
from kuberpa.model import Instant, Model

MAX_ACTIVITIES = 1000


def _like(field: str) -> dict[str, Any]:
    """Extra schema of a field of ActivityItem's spec, so that both say the same."""
    return dict(ActivityItemSpec.model_fields[field].json_schema_extra or {})  # type: ignore[arg-type]


class TriggeredActivity(Model):
    """The activity that works the queue; each ActivityItem of the trigger is made from it."""

    labels: Annotated[Labels, Field(description="Labels of each ActivityItem.")] = {}
    definition: Annotated[
        DefinitionName,
        Field(
            alias="def",
            description="Definition that works the queue, for example one that loops over kuberpa_agent.sdk.queue.",
        ),
    ]
    input: Annotated[
        dict[str, Any],
        Field(
            description="Its arguments, as in an ActivityItem, for example {kwargs: {queue: invoices}}.",
            json_schema_extra=_like("input"),
        ),
    ] = {}
    async_: Annotated[
        bool, Field(alias="async", description="Run beside the robots' synchronous activities, as in an ActivityItem.")
    ] = False
    priority: Annotated[
        int, Field(ge=-1_000_000, le=1_000_000, description="Priority of each ActivityItem, as there.")
    ] = 0
    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=31_536_000, description="Stop an attempt that runs longer, as in an ActivityItem.")
    ] = None
    stop: Annotated[
        StopPolicy,
        Field(description="How one is stopped that is not needed any more: it may finish its item within the grace."),
    ] = StopPolicy(grace_period_seconds=300)
    retry: Annotated[
        Retry, Field(description="Further attempts of one ActivityItem; without it the trigger makes another one.")
    ] = Retry()
    ttl_seconds_after_finished: Annotated[
        int, Field(ge=0, le=31_536_000, description="Seconds that a finished one stays in the cluster.")
    ] = 300


class Trigger(Model):
    """Keeps as many activities running as the backlog needs."""

    activity: Annotated[TriggeredActivity, Field(description="The activity that works the queue.")]
    robot_selector: Annotated[
        LabelSelector,
        Field(description="Robots that may run it. Those with control: Manual are left alone."),
    ]
    items_per_activity: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="One activity is wanted for each so many items that are ready or worked on.",
        ),
    ] = 1
    min: Annotated[
        int, Field(ge=0, le=MAX_ACTIVITIES, description="Activities that are kept however empty the queue is.")
    ] = 0
    max: Annotated[
        int, Field(ge=1, le=MAX_ACTIVITIES, description="Activities that there may be at a time, whatever the backlog.")
    ] = 1
    cooldown_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=86_400,
            description="How long fewer activities must have been enough before those too many are stopped, safely.",
        ),
    ] = 60


class TriggerStatus(Model):
    """What the trigger wants and does, and why."""

    desired: Annotated[int, Field(ge=0, description="Activities wanted now.")] = 0
    running: Annotated[int, Field(ge=0, description="Activities that are wanted and have not ended.")] = 0
    stopping: Annotated[int, Field(ge=0, description="Activities that were asked to stop and have not ended.")] = 0
    reason: Annotated[str, Field(max_length=128, description="Why so many are wanted, in CamelCase.")] = ""
    message: Annotated[str, Field(max_length=4096, description="The same as a sentence, with the numbers.")] = ""
    created: Annotated[
        int, Field(ge=0, description="Activities created so far; the number of the last one. Never decreases.")
    ] = 0
    changed_at: Annotated[Instant | None, Field(description="When desired last changed.")] = None
    low_since: Annotated[Instant | None, Field(description="Since when fewer activities than run would be enough.")] = (
        None
    )
    low_peak: Annotated[int, Field(ge=0, description="Most activities that were wanted since lowSince.")] = 0
