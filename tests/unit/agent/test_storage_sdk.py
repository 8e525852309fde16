from collections.abc import Callable

import pytest

from kuberpa_agent.sdk import StorageConflictError, StorageInvalidError, errors, gsettings, storage
from kuberpa_agent.sdk.testing import memory_storage


def test_a_document_is_read_and_changed_place_by_place() -> None:
    with memory_storage({"cursor": {"page": 1}}) as memory:
        assert storage.get("cursor/page") == 1
        assert storage.get("cursor/none", 7) == 7
        storage.set("cursor/page", 2)
        storage.append("seen", "a")
        storage.append("seen", "b")
        storage.plus("count", 1)
        storage.plus("count", 2)
        storage.plus("cursor", {"size": 5})
        assert memory.document == {"cursor": {"page": 2, "size": 5}, "seen": ["a", "b"], "count": 3}
        storage.delete("cursor")
        assert "cursor" not in storage.get()


def test_a_change_at_an_old_version_is_a_conflict() -> None:
    with memory_storage() as memory:
        before = storage.read()
        storage.set("x", 1, version=before.version)
        with pytest.raises(StorageConflictError, match="version 1, not 0"):
            storage.set("x", 2, version=before.version)
        assert memory.document == {"x": 1}


@pytest.mark.parametrize(
    ("op", "path", "values"), [(storage.append, "x", [1]), (storage.delete, "none", []), (storage.set, "x/y", [1])]
)
def test_a_change_that_is_not_possible_says_where(op: Callable[..., object], path: str, values: list[int]) -> None:
    with memory_storage({"x": 1}), pytest.raises(StorageInvalidError, match=f"^{path}: .* is not possible there"):
        op(path, *values)


def test_the_tree_is_what_the_test_says() -> None:
    with memory_storage(gsettings={"custom": {"office": {"limits": {"daily": 5}}}}):
        assert gsettings("custom/office/limits/daily") == 5
        assert gsettings("custom/none") is None


def test_outside_of_a_run_there_is_no_storage() -> None:
    with pytest.raises(errors.NotInRunError, match="not run by one"):
        storage.get()
