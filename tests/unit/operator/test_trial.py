from kuberpa_operator.trial import Trial, advise, describe

TRIAL = Trial("robots", "kuberpa-test-1", "registry/agent:1")


def test_the_trials_robot_takes_the_image_that_it_is_told_or_the_kinds_own() -> None:
    assert TRIAL.robot["spec"] == {"runtime": {"linuxPod": {"image": "registry/agent:1"}}}
    assert Trial("robots", "x").robot["spec"] == {"runtime": {"linuxPod": {}}}
    assert TRIAL.item["spec"]["robotRef"] == {"name": TRIAL.robot["metadata"]["name"]}


def test_where_an_activity_is_is_told_with_why() -> None:
    pending = {"status": {"phase": "Pending", "reason": "RobotNotReady", "message": "its pod is starting"}}
    assert describe(pending) == "Pending: RobotNotReady: its pod is starting"
    assert describe({"status": {"phase": "Running"}}) == "Running"
    assert describe({}) == "not seen by the operator yet"


def test_advice_tells_the_robots_trouble_and_where_its_pod_is() -> None:
    pull = {"type": "Ready", "status": "False", "reason": "ImagePullFailed", "message": "no such image"}
    other = {"type": "SessionActive", "status": "False", "reason": "NoSession", "message": "none is asked for"}
    text = advise({"status": {"conditions": [pull, other]}}, {"status": {"phase": "Pending"}}, "robots")
    assert "  Ready: ImagePullFailed: no such image" in text
    assert "NoSession" not in text
    assert "kubectl -n robots describe pod" in text


def test_advice_for_what_no_operator_has_seen_asks_for_the_operator() -> None:
    assert "watchNamespaces" in advise({}, {}, "robots")
