"""A real Prometheus that scrapes what a test names."""

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Prometheus:
    """Answers PromQL."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples as of now."""
        return list(self.ask("query", query=expression)["result"])


@contextmanager
def scraping(folder: Path, targets: Mapping[str, Sequence[str]], rules: Path) -> Iterator[Prometheus]:
    """Scrape each job's addresses (host:port) every second and evaluate these rules."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")

        def scraped() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            try:
                return len(prometheus.query("up == 1")) == sum(map(len, targets.values()))
            except OSError:
                return False

        try:
            eventually(scraped, "Prometheus scrapes every target", 60)
            yield prometheus
        finally:
            process.terminate()
