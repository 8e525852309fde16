"""What every benchmark prints: one JSON object a measurement."""

import json
import statistics
from collections.abc import Sequence
from typing import Any


def say(name: str, **values: Any) -> None:
    """One measurement: figures, and `target` (at least) or `target_<figure>` (at most) that they are held against."""
    print(json.dumps({"measurement": name, **values}), flush=True)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49] * 1000, 1), "p99_ms": round(cuts[98] * 1000, 1)}
