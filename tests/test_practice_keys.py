"""mmpi.practice.keys: key files, their modes, and the registry."""

import json
import os
from pathlib import Path

import pytest

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.keys import Registry, make_keys, read_registry

ACCOUNT, AGENT, VAULT = "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "dd" * 20


def test_keys_belong_to_the_agents_of_the_account(tmp_path: Path) -> None:
    """Each key file holds the key of the agent that agents.json and the registry name."""
    made = make_keys(tmp_path / "keys", tmp_path / "registry")
    keys = {name: (tmp_path / "keys" / f"{name}.key").read_text().strip() for name in ("quoter", "guardian")}
    assert {name: address_of(bytes.fromhex(key[2:])) for name, key in keys.items()} == made.agents
    assert (tmp_path / "keys" / "account").read_text() == made.account + "\n"
    assert json.loads((tmp_path / "keys" / "agents.json").read_text()) == {made.account: list(made.agents.values())}
    assert read_registry(tmp_path / "registry") == dict.fromkeys(made.agents.values(), made.account)


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    """Files have mode 0600 and a new folder 0700, whatever the umask."""
    old = os.umask(0)
    try:
        make_keys(tmp_path / "keys", tmp_path / "registry")
    finally:
        os.umask(old)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "keys").iterdir()} == {0o600}


@pytest.mark.parametrize("existing", ["account", "quoter.key", "guardian.key", "agents.json"])
def test_an_existing_file_is_not_overwritten(tmp_path: Path, existing: str) -> None:
    """The error names the file, and nothing else is written, the registry neither."""
    (tmp_path / existing).write_text("mine")
    with pytest.raises(ConfigError, match=f"{existing}: exists already.*--force"):
        make_keys(tmp_path, tmp_path / "registry")
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_force_replaces(tmp_path: Path) -> None:
    """With force the new keys take the place of the old, and are as private."""
    (tmp_path / "quoter.key").write_text("mine")
    (tmp_path / "quoter.key").chmod(0o644)
    made = make_keys(tmp_path, tmp_path / "registry", force=True)
    key = tmp_path / "quoter.key"
    assert address_of(bytes.fromhex(key.read_text().strip()[2:])) == made.agents["quoter"]
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way of the folder gives one error with its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        make_keys(tmp_path / "file" / "keys", tmp_path / "registry")


def test_registries_grow_by_appending(tmp_path: Path) -> None:
    """Two accounts made one after the other are both known."""
    first = make_keys(tmp_path / "a", tmp_path / "registry")
    second = make_keys(tmp_path / "b", tmp_path / "registry")
    assert set(read_registry(tmp_path / "registry").values()) == {first.account, second.account}


def test_an_account_made_later_is_found(tmp_path: Path) -> None:
    """A running server knows an agent that was registered after its start."""
    registry = Registry(tmp_path / "registry", strict=False)
    made = make_keys(tmp_path / "keys", tmp_path / "registry")
    assert registry.account(made.agents["guardian"]) == made.account
    assert registry.agents(made.account) == list(made.agents.values())


def test_who_a_stranger_is(tmp_path: Path) -> None:
    """An address in no registry is its own account, or nobody if the registry is strict; an account is itself."""
    path = tmp_path / "registry"
    path.write_text(json.dumps({ACCOUNT: [AGENT]}) + "\n")
    stranger = "0x" + "cc" * 20
    assert Registry(path, strict=False).account(stranger) == stranger
    assert Registry(path, strict=True).account(stranger) is None
    assert Registry(path, strict=True).account(ACCOUNT) == ACCOUNT
    assert Registry(path, strict=True).account(AGENT) == ACCOUNT
    assert Registry(path, strict=True).master(ACCOUNT) is None


@pytest.mark.parametrize(
    "line",
    [
        "", "{", '{"0x12": []}', '["x"]', f'{{"{ACCOUNT}": ["quoter"]}}', "\u00e9",
        f'{{"{VAULT}": {{}}}}', f'{{"{VAULT}": {{"leader": "me"}}}}',
        f'{{"{VAULT}": {{"leader": "{ACCOUNT}", "x": 1}}}}',
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    """The error says which line of which file is no account."""
    path = tmp_path / "registry"
    path.write_text(json.dumps({ACCOUNT: [AGENT]}) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match="registry: line 2 is not"):
        read_registry(path)


def test_a_vault_is_registered_beside_its_leader(tmp_path: Path) -> None:
    """On request there is a vault that the account leads, in a file, in agents.json and in the registry."""
    made = make_keys(tmp_path / "keys", tmp_path / "registry", vault=True)
    assert (tmp_path / "keys" / "vault").read_text() == made.vault + "\n"
    for path in (tmp_path / "registry", tmp_path / "keys" / "agents.json"):
        registry = Registry(path, strict=True)
        assert registry.leader(made.vault) == made.account
        assert registry.vaults(made.account) == [made.vault]
        assert registry.agents(made.account) == list(made.agents.values())
        assert read_registry(path) == dict.fromkeys(made.agents.values(), made.account)


def test_without_a_vault_there_is_none(tmp_path: Path) -> None:
    """No file of one, and nobody's leader."""
    made = make_keys(tmp_path / "keys", tmp_path / "registry")
    assert made.vault == ""
    assert not (tmp_path / "keys" / "vault").exists()
    assert Registry(tmp_path / "registry", strict=False).leader(made.account) is None


def test_a_vault_made_later_is_found(tmp_path: Path) -> None:
    """A running server knows a vault that was registered after its start, by whatever case it was written in."""
    path = tmp_path / "registry"
    path.write_text(json.dumps({ACCOUNT: [AGENT]}) + "\n")
    registry = Registry(path, strict=False)
    assert registry.leader(VAULT) is None
    with path.open("a") as file:
        file.write(json.dumps({VAULT.upper().replace("X", "x"): {"leader": ACCOUNT.upper().replace("X", "x")}}) + "\n")
    assert registry.leader(VAULT) == ACCOUNT
