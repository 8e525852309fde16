import sys

import typer

from kuberpa_cli.access import commands as access_commands
from kuberpa_cli.audit import commands as audit_commands
from kuberpa_cli.commands import cluster
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.gsettings import commands as gsettings_commands
from kuberpa_cli.queues import commands as queue_commands
from kuberpa_cli.remote import debug_commands
from kuberpa_cli.schedules import commands as schedules
from kuberpa_cli.work import commands as work
from kuberpa_cli.work import enrol_commands, fleet_commands, robot_commands

app = typer.Typer(
    name="kuberpa",
    help="Software robots on Kubernetes: run the cluster, run work on robots.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
cluster.register(app)
work.register(app)
robot_commands.register(app)
debug_commands.register(app)
fleet_commands.register(app)
enrol_commands.register(app)
schedules.register(app)
queue_commands.register(app)
gsettings_commands.register(app)
audit_commands.register(app)
access_commands.register(app)


def main() -> None:
    """Run the command line: failures that the user can act on are printed as they are, without a traceback."""
    try:
        app()
    except KuberpaError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED if sys.stderr.isatty() else None, err=True)
        sys.exit(error.exit_code)
