import pytest

from kuberpa_cli.access.commands import right_of
from kuberpa_cli.work.exits import UsageError


def test_a_right_is_a_verb_on_a_plural_with_or_without_a_name() -> None:
    assert right_of("get", "robots", "", "office") == {"verb": "get", "resource": "robots", "namespace": "office"}
    assert right_of("create", "robots/clerk", "stop", "office") == {
        "verb": "create",
        "resource": "robots/stop",
        "namespace": "office",
        "name": "clerk",
    }


@pytest.mark.parametrize("what", ["", "/clerk", "robots/", "robots/No Name"])
def test_what_is_no_resource_is_refused_in_words(what: str) -> None:
    with pytest.raises(UsageError):
        right_of("get", what, "", "office")
