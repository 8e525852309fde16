"""`python -m tests.support.build`: build what tests run first, so that no test's clock runs meanwhile."""

from tests.support import gotools, oidc, wine
from tests.support.cluster import PrintedReport

from kuberpa_cli.embedded import binaries, paths

if __name__ == "__main__":
    binaries.ensure(paths.from_environment().cache, PrintedReport())
    gotools.built(gotools.KUBECONFORM)
    oidc.prepared()
    wine.prepared()
