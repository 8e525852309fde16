"""`kuberpa run`, `logs`, `stop` and `kill` as processes, against everything that `kuberpa up` starts."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.support.cluster import Cluster
from tests.support.office import Office, opened
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)
CLERK = "clerk"


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "cli") as office:
        office.robot(CLERK, {"concurrency": 4}, team="payroll")
        yield office


def shell(script: str) -> str:
    return json.dumps(["sh", "-c", script])


def said(run: "subprocess.CompletedProcess[str]") -> str:
    return f"exit code {run.returncode}\n{run.stdout}\n{run.stderr}"


class TestRun:
    def test_following_prints_the_output_apart_and_ends_as_the_activity_does(self, office: Office) -> None:
        script = "echo one; echo two >&2; echo ёж"
        run = office.kuberpa("run", "os.command", shell(script), "--robot", CLERK, "--follow")
        assert (run.returncode, run.stdout) == (0, "one\nёж\n"), said(run)
        lines = run.stderr.splitlines()
        assert "two" in lines
        assert lines[0].startswith("activityitem.kuberpa.dev/os-command-")
        assert any(line.startswith(f"Succeeded on {CLERK}") for line in lines)

    def test_output_comes_while_the_activity_runs(self, office: Office) -> None:
        with office.running(
            "run", "os.command", shell("echo ready; sleep 60"), "-r", CLERK, "-f", "--name", "early"
        ) as cli:
            assert cli.stdout is not None
            assert cli.stdout.readline() == "ready\n"
            assert office.phase("early", "Running")
            office.kuberpa("kill", "early", "--yes")
            assert cli.wait(60) == 3

    @pytest.mark.parametrize(
        ("script", "options", "code", "words"),
        [
            ("exit 7", [], 1, "NonZeroExit"),
            ("sleep 60", ["--timeout", "1s"], 3, "TimeoutExceeded"),
        ],
    )
    def test_the_exit_code_says_how_it_ended(
        self, office: Office, script: str, options: list[str], code: int, words: str
    ) -> None:
        run = office.kuberpa("run", "os.command", shell(script), "-r", CLERK, "--follow", *options)
        assert run.returncode == code, said(run)
        assert words in run.stderr

    def test_an_expired_activity_has_a_code_of_its_own(self, office: Office) -> None:
        spec = {"robotSelector": {"matchLabels": {"no": "robot"}}, "def": "os.command", "startDeadlineSeconds": 1}
        office.created("ActivityItem", "late", spec)
        office.phase("late", "Expired")
        run = office.kuberpa("stop", "late", "--wait")
        assert (run.returncode, "late is Expired already" in run.stdout) == (0, True), said(run)

    def test_without_follow_it_prints_the_new_activity(self, office: Office) -> None:
        run = office.kuberpa("run", "os.command", '["true"]', "-r", CLERK, "--name", "plain")
        assert run.returncode == 0, said(run)
        heading, row = run.stdout.splitlines()
        assert heading.split() == ["NAME", "ROBOT", "DEFINITION", "PHASE", "REASON"]
        assert row.split()[:3] == ["plain", CLERK, "os.command"]

    def test_names_and_documents_are_for_scripts(self, office: Office) -> None:
        run = office.kuberpa("run", "os.command", '["true"]', "-r", CLERK, "-o", "name")
        assert office.kubectl("get", run.stdout.strip(), "-o", "name") == run.stdout
        run = office.kuberpa("run", "os.command", '["echo", "x"]', "-r", CLERK, "-o", "json", "--follow")
        assert json.loads(run.stdout)["status"]["phase"] == "Succeeded", said(run)
        assert "x" in run.stderr.splitlines()
        run = office.kuberpa("run", "os.command", '["true"]', "-r", CLERK, "-o", "yaml")
        assert yaml.safe_load(run.stdout)["spec"]["def"] == "os.command"

    def test_every_option_reaches_the_item(self, office: Office) -> None:
        options = ("--kwarg", 'env={"A": "1"}', "--kwarg", "cwd=/tmp", "--async", "--timeout", "5m", "--priority", "7")
        run = office.kuberpa("run", "os.command", '["true"]', "-l", "team=payroll", *options, "-o", "json")
        assert run.returncode == 0, said(run)
        spec: dict[str, Any] = json.loads(run.stdout)["spec"]
        assert spec["robotSelector"] == {"matchLabels": {"team": "payroll"}}
        assert spec["input"] == {"args": [["true"]], "kwargs": {"env": {"A": "1"}, "cwd": "/tmp"}}
        assert (spec["async"], spec["timeoutSeconds"], spec["priority"]) == (True, 300, 7)

    def test_input_can_come_from_standard_input(self, office: Office) -> None:
        text = json.dumps({"args": [["cat"]], "kwargs": {"stdin": "из файла\n"}})
        run = office.kuberpa("run", "os.command", "--input", "-", "-r", CLERK, "-f", stdin=text)
        assert (run.returncode, run.stdout) == (0, "из файла\n"), said(run)

    def test_ctrl_c_leaves_the_activity_running_and_says_how_to_end_it(self, office: Office) -> None:
        with office.running(
            "run", "os.command", shell("echo ready; sleep 60"), "-r", CLERK, "-f", "--name", "goes-on"
        ) as cli:
            assert cli.stdout is not None
            cli.stdout.readline()
            cli.send_signal(signal.SIGINT)
            _, err = cli.communicate(timeout=30)
            assert cli.returncode == 130
        assert "Activity goes-on goes on" in err
        assert f"kuberpa stop goes-on -n {office.namespace}" in err
        assert "Traceback" not in err
        assert office.phase("goes-on", "Running")
        assert office.kuberpa("kill", "goes-on", "--wait").returncode == 0

    def test_a_deleted_activity_ends_the_following(self, office: Office) -> None:
        with office.running(
            "run", "os.command", shell("echo ready; sleep 60"), "-r", CLERK, "-f", "--name", "removed"
        ) as cli:
            assert cli.stdout is not None
            cli.stdout.readline()
            office.kubectl("delete", "activityitem", "removed", "--wait=false")
            _, err = cli.communicate(timeout=60)
        assert cli.returncode == 3, err


class TestWrongRequests:
    """Exit code 2, nothing created, and the message says what would be right."""

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["os.command", "x", "-r", "clerc"], "no robot clerc in namespace {ns}. Did you mean clerk?"),
            (["os.command", "x", "-l", "team=hr"], "No robot in namespace {ns} has the labels team=hr"),
            (["os.comand", "x", "-r", CLERK], "Robot clerk offers no definition os.comand. Did you mean os.command?"),
            (["os.command", "x"], "either --robot NAME or --selector"),
            (["os.command", '["a", b]', "-r", CLERK], "argument 1 begins like JSON but is not valid"),
            (["os.command", "x", "-r", CLERK, "--kwarg", "env={"], "--kwarg env begins like JSON"),
            (["os.command", "x", "-r", CLERK, "--timeout", "soon"], "--timeout soon: write seconds or a duration"),
            (["os.command", "x", "-r", CLERK, "--priority", "1000001"], "spec.priority: "),
            (["os.command", "x", "-r", CLERK, "--name", "Not_Valid"], "--name 'Not_Valid'"),
            (["os.command", "x", "-r", "../../secrets"], "--robot '../../secrets'"),
        ],
    )
    def test_a_wrong_request_creates_nothing(self, office: Office, words: list[str], complaint: str) -> None:
        before = office.kubectl("get", "activityitems", "-o", "name").split()
        run = office.kuberpa("run", *words)
        assert run.returncode == 2, said(run)
        assert complaint.format(ns=office.namespace) in run.stderr
        assert "Traceback" not in run.stderr
        assert set(office.kubectl("get", "activityitems", "-o", "name").split()) <= set(before)

    def test_a_taken_name_is_refused(self, office: Office) -> None:
        office.item("taken", "true", CLERK)
        run = office.kuberpa("run", "os.command", "x", "-r", CLERK, "--name", "taken")
        assert (run.returncode, "Activity taken exists already" in run.stderr) == (2, True), said(run)

    def test_an_unknown_activity_is_named_with_close_ones(self, office: Office) -> None:
        office.item("close-one", "true", CLERK)
        for verb in ("stop", "kill", "logs"):
            run = office.kuberpa(verb, "close-onne")
            assert run.returncode == 2, said(run)
            assert "There is no activity close-onne" in run.stderr
            assert "close-one?" in run.stderr

    def test_a_cluster_that_is_not_there_is_unreachable(self, office: Office, tmp_path: Any) -> None:
        run = office.kuberpa("run", "os.command", "x", "-r", CLERK, KUBECONFIG=str(tmp_path / "none"))
        assert (run.returncode, "kuberpa env" in run.stderr) == (5, True), said(run)
        config = yaml.safe_load(office.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        dead = tmp_path / "dead.yaml"
        dead.write_text(yaml.safe_dump(config))
        run = office.kuberpa("stop", "x", KUBECONFIG=str(dead))
        assert (run.returncode, "https://127.0.0.1:1 cannot be reached" in run.stderr) == (5, True), said(run)

    def test_a_missing_right_names_verb_and_resource(self, office: Office) -> None:
        office.kubectl("create", "serviceaccount", "nobody")
        config = office.cluster.token_kubeconfig(office.namespace, "nobody")
        run = office.kuberpa("run", "os.command", "x", "-r", CLERK, KUBECONFIG=str(config))
        assert run.returncode == 6, said(run)
        assert f"You may not create activityitems.kuberpa.dev in namespace {office.namespace}" in run.stderr
        run = office.kuberpa("stop", "x", KUBECONFIG=str(config))
        assert (run.returncode, "You may not get activityitems.kuberpa.dev x" in run.stderr) == (6, True), said(run)

    def test_a_robot_that_one_may_not_run_is_refused_by_name(self, office: Office) -> None:
        office.kubectl("create", "serviceaccount", "writer")
        account = f"--serviceaccount={office.namespace}:writer"
        office.kubectl(
            "create", "role", "writes", "--verb=create,get,list,watch", "--resource=activityitems.kuberpa.dev"
        )
        office.kubectl("create", "rolebinding", "writes", "--role=writes", account)
        config = office.cluster.token_kubeconfig(office.namespace, "writer")
        run = office.kuberpa("run", "os.command", '["true"]', "-r", CLERK, KUBECONFIG=str(config))
        assert run.returncode == 6, said(run)
        assert "robots/run" in run.stderr
        assert "clerk" in run.stderr


class TestLogs:
    def test_output_stays_readable_by_name(self, office: Office) -> None:
        office.item("spoke", "echo out; echo err >&2", CLERK)
        office.ended("spoke")
        run = office.kuberpa("logs", "activityitem/spoke")
        assert (run.returncode, run.stdout, run.stderr) == (0, "out\n", "err\n"), said(run)
        stamped = office.kuberpa("logs", "spoke", "--timestamps", "-f")
        time, text = stamped.stdout.split()
        assert text == "out"
        assert time.endswith("Z")

    def test_output_outlives_the_item(self, office: Office) -> None:
        office.item("gone", "echo still here", CLERK, ttlSecondsAfterFinished=0)
        eventually(lambda: not office.get("activityitem", "gone"), "its TTL is over", 60)
        run = office.kuberpa("logs", "gone")
        assert (run.returncode, run.stdout) == (0, "still here\n"), said(run)

    def test_output_of_every_attempt_is_kept(self, office: Office) -> None:
        office.item("again", "echo try; exit 1", CLERK, retry={"limit": 2, "backoffSeconds": 0})
        followed = office.kuberpa("logs", "-f", "again")
        assert followed.stdout == "try\n" * 3, said(followed)
        office.phase("again", "Failed")
        assert office.kuberpa("logs", "again").stdout == "try\n" * 3

    def test_without_a_panel_it_says_how_to_name_one(self, office: Office) -> None:
        run = office.kuberpa("logs", "x", KUBERPA_URL="", KUBERPA_TOKEN="")
        assert run.returncode == 2, said(run)
        assert 'eval "$(kuberpa env)"' in run.stderr

    def test_following_goes_on_without_a_panel(self, office: Office) -> None:
        words = ("run", "os.command", '["true"]', "-r", CLERK, "--follow")
        run = office.kuberpa(*words, KUBERPA_URL="", KUBERPA_TOKEN="")
        assert (run.returncode, "Without its output" in run.stderr) == (0, True), said(run)

    def test_a_wrong_token_is_said_to_be_wrong(self, office: Office) -> None:
        run = office.kuberpa("logs", "spoke", KUBERPA_TOKEN="nonsense")
        assert (run.returncode, "does not accept KUBERPA_TOKEN" in run.stderr) == (6, True), said(run)
        assert "nonsense" not in run.stderr


class TestEnding:
    def test_stop_lets_it_end_by_itself(self, office: Office) -> None:
        office.item("asked", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done", CLERK)
        office.phase("asked", "Running")
        run = office.kuberpa("stop", "asked", "--wait")
        assert run.returncode == 0, said(run)
        assert "asked: Stopped" in run.stdout
        assert office.panel_log("asked", "stdout") == "ready\nbye\n"

    def test_several_are_ended_at_once_and_the_unknown_one_is_reported(self, office: Office) -> None:
        for name in ("first", "second"):
            office.item(name, "sleep 60", CLERK)
            office.phase(name, "Running")
        run = office.kuberpa("kill", "first", "nobody", "second", "--wait")
        assert run.returncode == 2, said(run)
        assert "There is no activity nobody" in run.stderr
        assert office.ended("first")["phase"] == office.ended("second")["phase"] == "Killed"

    def test_ending_twice_says_what_is(self, office: Office) -> None:
        office.item("twice", "sleep 60", CLERK)
        office.phase("twice", "Running")
        assert office.kuberpa("kill", "twice", "--wait").returncode == 0
        run = office.kuberpa("stop", "twice")
        assert (run.returncode, run.stdout) == (0, "twice is Killed already\n"), said(run)
