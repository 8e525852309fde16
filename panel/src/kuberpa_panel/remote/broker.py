"""Opens streams to robots: here, or through the replica that has the robot's agent."""

from typing import Final, Protocol

from kuberpa.client import ApiError
from kuberpa.streams import StreamClosedError
from kuberpa_panel.agents.streams import AgentStreams
from kuberpa_panel.language import _, marked
from kuberpa_panel.remote.peers import Peers
from kuberpa_panel.remote.wish import Channel, Wish
from kuberpa_panel.watch import WatchCache

AWAY: Final = marked("the robot's agent is not connected")


class Connected(Protocol):
    """A connected agent."""

    @property
    def streams(self) -> AgentStreams:
        """Its streams."""


class Agents(Protocol):
    """The agents of this replica: agents.hub."""

    def get(self, namespace: str, robot: str) -> Connected | None:
        """The robot's."""


class Broker:
    """See the module."""

    def __init__(self, cache: WatchCache, hub: Agents, peers: Peers, server: str) -> None:
        self._cache, self._hub, self._peers, self._server = cache, hub, peers, server

    async def open(self, wish: Wish) -> Channel:
        """A stream to the robot. Raises StreamClosedError with a reason for people."""
        if self._hub.get(wish.namespace, wish.robot) is not None:
            return self.open_here(wish)
        robot = self._cache.robots.get(wish.namespace, wish.robot)
        agent = robot.status.agent if robot else None
        if agent is None or not agent.connected or agent.server in {"", self._server}:
            raise StreamClosedError(AWAY)
        try:
            return await self._peers.open(agent.server, wish)
        except ApiError as error:
            raise StreamClosedError(
                _("the replica that has the robot cannot be found: %(error)s", error=error)
            ) from None

    def open_here(self, wish: Wish) -> Channel:
        """A stream to a robot whose agent is connected to this replica. Raises StreamClosedError."""
        connection = self._hub.get(wish.namespace, wish.robot)
        if connection is None:
            raise StreamClosedError(AWAY)
        return connection.streams.open(wish.kind, wish.user, wish.options)
