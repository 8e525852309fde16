import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.child import User
from kuberpa_cli.embedded.processes import Identity
from kuberpa_cli.errors import KuberpaError


@dataclass(frozen=True)
class Record:
    """What the runtime must remember of a pod so that a restart of itself finds it again."""

    uid: str
    namespace: str
    name: str
    user_id: int | None = None
    pid: int | None = None
    created: float = 0.0
    restarts: int = 0

    @property
    def process(self) -> Identity | None:
        """The agent that was last started."""
        return Identity(self.pid, self.created) if self.pid is not None else None

    @property
    def user(self) -> User | None:
        """The pod's own user; its group has the same number."""
        return User(self.user_id, self.user_id) if self.user_id is not None else None

    def started(self, process: Identity, restarts: int) -> "Record":
        """The record once an agent runs."""
        return replace(self, pid=process.pid, created=process.created, restarts=restarts)


class Records:
    """One JSON file for each pod, in a folder that robots cannot enter, and the pods' user IDs."""

    def __init__(self, folder: Path, user_ids: range | None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._user_ids = user_ids
        self._known = {path.stem: Record(**json.loads(path.read_text())) for path in folder.glob("*.json")}

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._known.values()))

    def claim(self, uid: str, namespace: str, name: str) -> Record:
        """The pod's record; a pod seen first gets the lowest free user ID of the block."""
        if uid not in self._known:
            self.save(Record(uid, namespace, name, self._free_user_id()))
        return self._known[uid]

    def save(self, record: Record) -> None:
        """Remember, also on disk."""
        self._known[record.uid] = record
        files.write(self._folder / f"{record.uid}.json", json.dumps(asdict(record)))

    def forget(self, uid: str) -> None:
        """The pod is gone: its user ID may be given to another."""
        self._known.pop(uid, None)
        (self._folder / f"{uid}.json").unlink(missing_ok=True)

    def _free_user_id(self) -> int | None:
        if self._user_ids is None:
            return None
        taken = {record.user_id for record in self._known.values()}
        # The first of the block is the simulator's.
        for user_id in self._user_ids[1:]:
            if user_id not in taken:
                return user_id
        raise KuberpaError(f"all {len(self._user_ids)} user IDs for robots are in use")
