from typing import Any

import pytest

from kuberpa.gsettings import MAX_CUSTOM_BYTES, Settings
from kuberpa.gsettings_change import ChangeError, Edit, changed_part, place_of
from kuberpa.treepath import steps_of

OWN = "kuberpa-system"


def change(path: str, value: Any, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return changed_part(spec or {}, place_of(steps_of(path), OWN), Edit(value=value))[0]


def test_a_path_names_the_object_and_the_field() -> None:
    custom = place_of(steps_of("custom/office/invoices/limits/daily"), OWN)
    assert (custom.namespace, custom.name, custom.field) == ("office", "invoices", "spec.custom.limits.daily")
    setting = place_of(steps_of("settings/panel/timeZone"), OWN)
    assert (setting.namespace, setting.name, setting.field) == (OWN, "kuberpa", "spec.settings.panel.timeZone")


@pytest.mark.parametrize("path", ["", "custom", "custom/office", "robots/office/mail/spec", "storage/office/mail"])
def test_what_is_not_editable_says_what_is(path: str) -> None:
    with pytest.raises(ChangeError, match=r"custom/NAMESPACE/NAME/… and settings/… are"):
        place_of(steps_of(path), OWN)


def test_a_setting_is_checked_by_its_type() -> None:
    assert change("settings/retention/activityDays", 30) == {"retention": {"activityDays": 30}}
    with pytest.raises(ChangeError, match=r"spec\.settings\.retention\.activityDays: .*greater than or equal to 1"):
        change("settings/retention/activityDays", 0)


def test_a_misspelt_setting_is_refused_with_the_right_ones() -> None:
    with pytest.raises(
        ChangeError, match=r"spec\.settings\.panel\.timezone: there is no such setting; here are .*timeZone"
    ):
        change("settings/panel/timezone", "UTC")


def test_a_tree_that_grows_too_large_is_refused() -> None:
    with pytest.raises(ChangeError, match=r"spec\.custom: would have .* at most 262144"):
        change("custom/office/invoices/blob", "x" * MAX_CUSTOM_BYTES)


def test_the_defaults_are_what_no_setting_means() -> None:
    assert Settings.of({}) == Settings()
    assert Settings().to_json()["panel"]["sessions"] == {"idleMinutes": 120, "maxMinutes": 720}
