"""Which agents work with which release."""

import pytest

from kuberpa.versions import Skew, skew


@pytest.mark.parametrize(
    ("agent", "release", "expected"),
    [
        ("1.4.0", "1.4.0", Skew.SAME),
        ("1.4.7", "1.4.0", Skew.SAME),
        ("1.4.0rc1", "1.4.2", Skew.SAME),
        ("1.4", "1.4.2", Skew.SAME),
        ("1.3.9", "1.4.0", Skew.ONE_OLDER),
        ("0.1.0", "0.2.0", Skew.ONE_OLDER),
        ("1.2.0", "1.4.0", Skew.TOO_OLD),
        ("0.9.0", "1.0.0", Skew.TOO_OLD),
        ("1.5.0", "1.4.9", Skew.NEWER),
        ("2.0.0", "1.9.0", Skew.NEWER),
        ("10.0.0", "9.9.9", Skew.NEWER),
        ("", "1.4.0", Skew.UNREADABLE),
        ("nightly", "1.4.0", Skew.UNREADABLE),
        ("1", "1.4.0", Skew.UNREADABLE),
        ("1.4\n9", "1.4.0", Skew.UNREADABLE),
        ("9" * 40 + ".1", "1.4.0", Skew.UNREADABLE),
    ],
)
def test_an_agent_is_held_against_the_release(agent: str, release: str, expected: Skew) -> None:
    assert skew(agent, release) is expected
