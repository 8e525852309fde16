"""Writes Grafana's dashboards from what boards.py says of them: `make dashboards`."""

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from helm.tools.boards import BOARDS, Board, Graph

FOLDER: Final = Path(__file__).parents[1] / "kuberpa" / "monitoring" / "dashboards"
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="$datasource")
COLUMNS: Final = 24


def _panel(graph: Graph, x: int, y: int) -> timeseries.Panel | stat.Panel:
    panel: timeseries.Panel | stat.Panel = stat.Panel() if graph.number else timeseries.Panel()
    panel.title(graph.title).description(graph.about).unit(graph.unit).datasource(SOURCE)
    panel.grid_pos(models.GridPos(h=4 if graph.number else 8, w=graph.width, x=x, y=y))
    for query in graph.queries:
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend or graph.title)
        panel.with_target(target.ref_id(chr(ord("A") + graph.queries.index(query))))
    return panel


def _variables(board: dashboard.Dashboard, *, queues: bool) -> None:
    board.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    choices = [("namespace", "Namespace", "label_values(kuberpa_robots, namespace)")]
    if queues:
        choices.append(("queue", "Queue", 'label_values(kuberpa_queue_items{namespace=~"$namespace"}, queue)'))
    for name, label, query in choices:
        variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
        board.with_variable(variable.multi(True).include_all(True).all_value(".*"))


def render(board: Board) -> str:
    """The dashboard as Grafana imports it."""
    built = dashboard.Dashboard(board.title).uid(board.name).description(board.about)
    built.tags(["kuberpa"]).refresh("30s").time("now-3h", "now").timezone("browser")
    _variables(built, queues=board.queues)
    x = y = 0
    height = 0
    for graph in board.graphs:
        if x + graph.width > COLUMNS or (height and height != (4 if graph.number else 8)):
            x, y = 0, y + height
        height = 4 if graph.number else 8
        built.with_panel(_panel(graph, x, y))
        x += graph.width
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def main() -> None:
    """Write them all."""
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(render(board), encoding="utf-8")


if __name__ == "__main__":
    main()
