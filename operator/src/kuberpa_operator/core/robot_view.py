from dataclasses import dataclass
from datetime import datetime

from kuberpa.reasons import Reason
from kuberpa_operator.core.effects import Effect


@dataclass(frozen=True, slots=True)
class View:
    """What a rule makes of a robot. The phase is not its business: kuberpa.robot_lifecycle.STEPS has it."""

    reason: Reason
    message: str = ""
    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None
    rule: str = ""
