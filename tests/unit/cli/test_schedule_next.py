"""`kuberpa schedule next -f`: manifests that are not applied, without a cluster."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kuberpa_cli.main import app

MANIFESTS = """
apiVersion: kuberpa.dev/v1alpha1
kind: Calendar
metadata: {name: ru}
spec: {workingDays: [Monday, Tuesday, Wednesday, Thursday, Friday], holidays: {country: RU, dates: [2027-03-10]}}
---
apiVersion: kuberpa.dev/v1alpha1
kind: Schedule
metadata: {name: nightly}
spec:
  schedules: ["0 9,20 * * *"]
  timeZone: Europe/Moscow
  window: {daily: {from: 08:00, to: 20:00}, startDate: 2027-03-05}
  calendars: {include: [ru]}
  action: {activity: {spec: {robotRef: {name: invoices}, def: os.command}}}
"""


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def ask(tmp_path: Path, *words: str, text: str = MANIFESTS) -> tuple[int, str, str]:
    file = tmp_path / "schedule.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["schedule", "next", "-f", str(file), "--from", "2027-03-01T00:00:00Z", *words])
    return result.exit_code, result.stdout, result.stderr


def test_each_date_is_explained_as_json(tmp_path: Path) -> None:
    code, out, err = ask(tmp_path, "--count", "3", "-o", "json")
    assert (code, err) == (0, "")
    entries = json.loads(out)
    assert [set(entry) for entry in entries] == [{"at", "local", "outcome", "reason"}] * 7
    assert [(entry["at"], entry["outcome"]) for entry in entries] == [
        ("2027-03-05T06:00:00Z", "Run"),
        ("2027-03-06T06:00:00Z", "Skipped"),
        ("2027-03-07T06:00:00Z", "Skipped"),
        ("2027-03-08T06:00:00Z", "Skipped"),
        ("2027-03-09T06:00:00Z", "Run"),
        ("2027-03-10T06:00:00Z", "Skipped"),
        ("2027-03-11T06:00:00Z", "Run"),
    ]
    assert entries[3]["local"] == "2027-03-08T09:00:00+03:00"
    assert entries[3]["reason"] == "Excluded: holiday in RU: International Women's Day, by Calendar ru"


def test_the_table_has_a_line_an_instant(tmp_path: Path) -> None:
    code, out, _ = ask(tmp_path, "nightly", "--count", "1")
    head, row = out.splitlines()
    assert (code, head.split()) == (0, ["AT", "LOCAL", "OUTCOME", "REASON"])
    assert row.split()[:3] == ["2027-03-05T06:00:00Z", "2027-03-05T09:00:00+03:00", "Run"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0 9,20", "0 99", "spec.schedules[0]: '0 99 * * *': '99' is not valid for hour (0-23)"),
        ("include: [ru]", "include: [de]", "spec.calendars.include[0]: there is no Calendar 'de'"),
        ("include: [ru]", "inclde: [ru]", "spec.calendars.inclde: there is no such field"),
        ("country: RU", "country: RUS1", "spec.holidays.country: String should have at most 3 characters"),
        ("Europe/Moscow", "Moscow", "spec.timeZone: 'Moscow' is no time zone"),
        ("[2027-03-10]", "[tomorrow]", "spec.holidays.dates.0: Input should be a valid date"),
        ("name: nightly", "name: daily", "There is no Schedule nightly"),
        ("kind: Schedule", "kind: Secret", "There is no Schedule nightly"),
        ("kind: Schedule", "kind: [", "is no YAML"),
    ],
)
def test_a_wrong_manifest_is_told_by_its_field(tmp_path: Path, old: str, new: str, words: str) -> None:
    code, out, err = ask(tmp_path, "nightly", text=MANIFESTS.replace(old, new))
    assert (code, out) == (2, "")
    assert words in err.replace("\n", " ")


def test_a_plan_that_never_fires_says_so(tmp_path: Path) -> None:
    code, out, err = ask(tmp_path, "-o", "json", text=MANIFESTS.replace("0 9,20 * * *", "0 9 30 2 *"))
    assert (code, json.loads(out)) == (0, [])
    assert "It fires at no instant from 2027-03-01T00:00:00Z on." in err


def test_the_keep_alive_manifest_looks_after_its_robots_each_minute() -> None:
    file = Path(__file__).parents[3] / "manifests/keep-alive/10-schedule-office-hours.yaml"
    words = ["schedule", "next", "-f", str(file), "--count", "2", "-o", "json", "--from", "2027-03-01T05:00:00Z"]
    result = CliRunner().invoke(app, words)
    assert [entry["local"] for entry in json.loads(result.stdout)] == [
        "2027-03-01T08:00:00+03:00",
        "2027-03-01T08:01:00+03:00",
    ]
