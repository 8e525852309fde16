"""What the runs of one agent ask for their robot: its storage, and the GSettings tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kuberpa import wire
from kuberpa.activity import ActivityItem
from kuberpa.model import Model
from kuberpa.queueing import QueueError, QueueErrorCode
from kuberpa.storage import ChangeStorage, GSettingsPart, ReadGSettings, ReadStorage
from kuberpa.treepath import find, steps_of
from kuberpa.wire import QueueOp, RobotOp
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.gsettings.service import GSettingsService
from kuberpa_panel.services.activities import requested_by
from kuberpa_panel.services.storage import StorageConflictError, StorageRefusedError
from kuberpa_panel.watch import WatchCache

ROBOT_BODIES: Final[Mapping[QueueOp | RobotOp, type[Model]]] = {
    RobotOp.STORAGE_READ: ReadStorage,
    RobotOp.STORAGE_CHANGE: ChangeStorage,
    RobotOp.GSETTINGS: ReadGSettings,
}
MOST_BYTES: Final = wire.MAX_FRAME_BYTES // 2
"""Of a part of the tree that is handed out: an answer is one frame."""


@dataclass(frozen=True, slots=True)
class RobotCalls:
    """Answers for every connection. What cannot be done is a QueueError, as all that a Call is answered with."""

    gsettings: GSettingsService
    cache: WatchCache

    async def ask(self, identity: Identity, call: wire.Call, body: Any) -> Model:
        """Carry a call out: storage is the robot's own, the tree is what its creator and the robot may both see."""
        match body:
            case ReadStorage():
                return await self.gsettings.storage.read(identity.namespace, identity.robot, body.path)
            case ChangeStorage():
                return await self._change(identity, call, body)
            case _:
                return await self._tree(identity, call, body)

    async def _change(self, identity: Identity, call: wire.Call, body: ChangeStorage) -> Model:
        try:
            return await self.gsettings.storage.change_own(identity.namespace, identity.robot, body, call.id)
        except StorageConflictError as error:
            raise QueueError(QueueErrorCode.NOT_POSSIBLE, str(error)) from error
        except StorageRefusedError as error:
            raise QueueError(QueueErrorCode.INVALID, str(error)) from error

    async def _tree(self, identity: Identity, call: wire.Call, body: ReadGSettings) -> Model:
        item = self.cache.items.get(identity.namespace, call.activity)
        if item is None or not _is_its(item, identity):
            message = f"{call.activity or 'no activity'} is not an activity of robot {identity.robot}"
            raise QueueError(QueueErrorCode.FORBIDDEN, message)
        tree = await self.gsettings.injected(requested_by(item), identity.namespace, identity.robot)
        try:
            part = GSettingsPart(found=True, value=find(tree, steps_of(body.path)))
        except LookupError:
            return GSettingsPart(found=False)
        if (size := len(part.model_dump_json())) > MOST_BYTES:
            message = (
                f"{body.path or 'the tree'} has {size:,} bytes; at most {MOST_BYTES:,} are handed out: name a path"
            )
            raise QueueError(QueueErrorCode.INVALID, message)
        return part


def _is_its(item: ActivityItem, identity: Identity) -> bool:
    """Whether the item is on this robot now: the agent says which one asks, and might say any."""
    return item.status.robot == identity.robot and item.status.lease.holder == identity.pod_uid
