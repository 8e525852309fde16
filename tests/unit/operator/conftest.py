import pytest
from tests.support.operator import Simulation


@pytest.fixture
async def sim() -> Simulation:
    """A replica that leads an empty cluster."""
    simulation = Simulation()
    await simulation.lead()
    return simulation
