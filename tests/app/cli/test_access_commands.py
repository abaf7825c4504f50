"""Accounts, projects, members and keys from the shell."""

import pytest

from voxelight.app.auth import find_principal
from voxelight.app.bootstrap import open_services
from voxelight.app.settings import Settings
from voxelight.models.errors import Unauthenticated


def test_from_an_account_to_a_key_and_its_end(shell, ask, home):
    assert ask("access", "accounts", "add", "bob")[0]["roles"] == {}
    shell("access", "accounts", "add", "bob", code=4)
    shell("access", "projects", "add", "tumours", "--note", "of the clinic")
    shell("datasets", "create", "heads")
    assert ask("access", "projects", "take", "tumours", "heads")["project"] == "tumours"
    counts = {one["name"]: one["datasets"] for one in ask("access", "projects", "list")}
    assert counts == {"default": 0, "tumours": 1}
    assert ask("access", "members", "set", "tumours", "bob", "operator")[0]["role"] == "operator"
    shell("access", "members", "set", "nothing", "bob", "operator", code=3)
    key = shell("access", "keys", "add", "bob", "--scope", "read", "--days", "2").stdout.strip()
    assert key.startswith("vxl_")
    [listed] = ask("access", "keys", "list", "bob")
    assert listed["scopes"] == ["read"]
    assert key.split("_", 2)[2] not in str(listed)

    services = open_services(Settings(home=home))
    who = find_principal(services, key)
    assert (who.name, dict(who.roles), set(who.scopes)) == ("bob", {"tumours": "operator"}, {"read"})
    assert ask("access", "accounts", "disable", "bob")[0]["disabled_at"]
    with pytest.raises(Unauthenticated):
        find_principal(services, key)
    shell("access", "accounts", "enable", "bob")
    shell("access", "members", "remove", "tumours", "bob")
    assert find_principal(services, key).roles == {}
    shell("access", "keys", "revoke", listed["prefix"])
    with pytest.raises(Unauthenticated):
        find_principal(services, key)
    services.close()


def test_the_only_administrator_stays(shell):
    shell("access", "accounts", "add", "ada", "--admin")
    assert "the only administrator" in shell("access", "accounts", "disable", "ada", code=4).stderr
    shell("access", "accounts", "add", "eve", "--admin")
    shell("access", "accounts", "disable", "ada")
    assert "disabled" in shell("access", "accounts", "list").stdout


def test_a_server_for_others_does_not_start_without_accounts(shell):
    said = shell("serve", "--host", "0.0.0.0", "--port", "8599", code=5).stderr
    assert "VOXELIGHT_AUTH=keys" in said
