"""`python -m tests.support.build`: build the control plane's binaries before the tests, whose clock then runs for tests only."""

from kuberpa_cli.embedded import binaries, paths
from tests.support.cluster import PrintedReport

if __name__ == "__main__":
    binaries.ensure(paths.from_environment().cache, PrintedReport())
