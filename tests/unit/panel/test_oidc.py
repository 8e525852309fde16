"""Who the claims of a provider are of, and what a provider may be configured to."""

from pathlib import Path
from typing import Any

import pytest

from kuberpa_panel.api.oidc import MOST_GROUPS, OidcRefusedProblem, user_of
from kuberpa_panel.settings import OidcSettings, SettingsError


def settings(**more: Any) -> OidcSettings:
    known: dict[str, Any] = {"issuer": "https://corp", "client_id": "rpa", "panel_url": "https://rpa", "name": "Corp"}
    return OidcSettings(**{**known, "secret_file": Path("unused"), **more})


def test_names_of_users_and_groups_have_the_prefix() -> None:
    user = user_of({"sub": "anna", "groups": ["ops", "system:masters"]}, settings())
    assert user.name == "oidc:anna"
    assert user.groups == ("oidc:ops", "oidc:system:masters", "system:authenticated")


def test_one_group_may_be_a_text_and_none_may_be_named() -> None:
    assert user_of({"sub": "anna", "groups": "ops"}, settings()).groups[0] == "oidc:ops"
    assert user_of({"sub": "anna"}, settings()).groups == ("system:authenticated",)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": ""},
        {"sub": 7},
        {"sub": " anna"},
        {"sub": "anna\nsystem:admin"},
        {"sub": "a" * 300},
        {"sub": "anna", "groups": {"ops": True}},
        {"sub": "anna", "groups": ["g"] * (MOST_GROUPS + 1)},
    ],
)
def test_claims_that_name_nobody_in_particular_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(OidcRefusedProblem):
        user_of(claims, settings())


def test_an_address_counts_only_when_it_is_verified() -> None:
    by_mail = settings(username_claim="email")
    assert user_of({"email": "a@corp", "email_verified": True}, by_mail).name == "oidc:a@corp"
    for verified in ({}, {"email_verified": False}, {"email_verified": "true"}):
        with pytest.raises(OidcRefusedProblem):
            user_of({"email": "a@corp", **verified}, by_mail)


def test_whoever_is_not_in_the_required_group_is_not_let_in() -> None:
    only = settings(required_group="rpa")
    assert user_of({"sub": "anna", "groups": ["rpa"]}, only).name == "oidc:anna"
    for groups in ([], ["oidc:rpa"], ["rpa2"]):
        with pytest.raises(OidcRefusedProblem):
            user_of({"sub": "anna", "groups": groups}, only)


GIVEN = {
    "KUBERPA_OIDC_ISSUER": "https://login.corp.example/main",
    "KUBERPA_OIDC_CLIENT_ID": "rpa",
    "KUBERPA_OIDC_CLIENT_SECRET_FILE": __file__,
    "KUBERPA_OIDC_PANEL_URL": "https://rpa.corp.example/",
}


def test_a_provider_is_called_by_its_host_unless_it_has_a_name() -> None:
    found = OidcSettings.from_environ(GIVEN)
    assert found is not None
    assert (found.name, found.panel_url, found.prefix) == ("login.corp.example", "https://rpa.corp.example", "oidc:")
    assert OidcSettings.from_environ({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KUBERPA_OIDC_ISSUER", "http://login.corp.example"),
        ("KUBERPA_OIDC_PANEL_URL", ""),
        ("KUBERPA_OIDC_PANEL_URL", "ftp://rpa"),
        ("KUBERPA_OIDC_CLIENT_ID", ""),
        ("KUBERPA_OIDC_CLIENT_SECRET_FILE", ""),
        ("KUBERPA_OIDC_CLIENT_SECRET_FILE", "/nowhere"),
        ("KUBERPA_OIDC_PREFIX", ""),
        ("KUBERPA_OIDC_PREFIX", "system:"),
        ("KUBERPA_OIDC_PREFIX", "system:serviceaccount:"),
        ("KUBERPA_OIDC_PREFIX", "s"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        OidcSettings.from_environ({**GIVEN, name: value})
