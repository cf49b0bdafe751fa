"""Backups that leave the machine are encrypted once there is a public key, and decrypted with the private one alone."""

import subprocess
import sys
from pathlib import Path

import fsspec
import pyrage
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.storage import encryption
from etl.storage.backup_copy import copy_backups
from pydantic import SecretStr
from pyrage import x25519

OLD, NEW, DUMP = "sink-20260101T021500Z.bak", "sink-20260102T021500Z.bak", "metadata-20260101T011500Z.dump"
SECRET = b"the rows of all customers " * 9000
ONE, OTHER = x25519.Identity.generate(), x25519.Identity.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the backups."""
    made = tmp_path / "backup"
    made.mkdir()
    for name in (OLD, NEW, DUMP):
        (made / name).write_bytes(name.encode() + SECRET)
    return made


def copy(
    folder: Path, url: str, *identities: x25519.Identity, back: bool = False, key: "x25519.Identity | str | None" = None
) -> list[str]:
    recipients = " ".join(str(identity.to_public()) for identity in identities)
    secret = SecretStr(str(key)) if key else None
    settings = Settings(backup_folder=folder, backup_url=url, backup_recipients=recipients, backup_identity=secret)
    return copy_backups(settings, back=back)


def there(url: str) -> dict[str, bytes]:
    """The copies."""
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    return {Path(path).name: filesystem.cat_file(path) for path in filesystem.ls(root, detail=False)}


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_no_copy_shows_what_is_in_it_and_each_is_made_once(folder: Path, elsewhere: str) -> None:
    assert copy(folder, elsewhere, ONE) == [DUMP, OLD, NEW]
    copies = there(elsewhere)
    assert sorted(copies) == [f"{DUMP}.age", f"{OLD}.age", f"{NEW}.age"]
    assert not any(b"customers" in content or b"sink-2026" in content for content in copies.values())
    assert copy(folder, elsewhere, ONE) == []
    assert sorted(path.name for path in folder.iterdir()) == [DUMP, OLD, NEW]


def test_the_newest_of_each_come_back_as_they_were(folder: Path, elsewhere: str) -> None:
    copy(folder, elsewhere, ONE)
    empty(folder)
    assert copy(folder, elsewhere, back=True, key=ONE) == [DUMP, NEW]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: name.encode() + SECRET for name in (DUMP, NEW)
    }
    assert copy(folder, elsewhere, back=True, key=ONE) == []


def test_the_file_that_age_keygen_writes_will_do_with_its_comments(folder: Path, elsewhere: str) -> None:
    copy(folder, elsewhere, ONE)
    empty(folder)
    text = f"# created: 2026-01-01T00:00:00Z\n# public key: {ONE.to_public()}\n{ONE}\n\n"
    assert copy(folder, elsewhere, back=True, key=text) == [DUMP, NEW]


@pytest.mark.parametrize("key", [ONE, OTHER])
def test_of_two_keys_either_decrypts(folder: Path, tmp_path: Path, key: x25519.Identity) -> None:
    copy(folder, f"file://{tmp_path}/elsewhere", ONE, OTHER)
    empty(folder)
    assert copy(folder, f"file://{tmp_path}/elsewhere", back=True, key=key) == [DUMP, NEW]


def test_after_a_rotation_old_copies_stay_with_the_old_key(folder: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/elsewhere"
    (folder / NEW).rename(tmp_path / NEW)
    copy(folder, url, ONE)
    (tmp_path / NEW).rename(folder / NEW)
    assert copy(folder, url, OTHER) == [NEW]
    empty(folder)
    with pytest.raises(ConfigurationError, match=rf"{DUMP}.age cannot be decrypted"):
        copy(folder, url, back=True, key=OTHER)
    assert copy(folder, url, back=True, key=f"{ONE}\n{OTHER}") == [DUMP, NEW]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (None, f"{DUMP}.age is encrypted: set BACKUP_IDENTITY to the private key"),
        (None, "scripts/restore.sh does that with --fetch --identity FILE"),
        (OTHER, "No other key reads it"),
        ("nonsense", "BACKUP_IDENTITY is no private key of age"),
        (str(ONE.to_public()), "BACKUP_IDENTITY is no private key of age"),
    ],
    ids=["none", "none: how", "another", "nonsense", "public"],
)
def test_without_the_key_nothing_comes_back(
    folder: Path, elsewhere: str, key: "x25519.Identity | str", told: str
) -> None:
    copy(folder, elsewhere, ONE)
    empty(folder)
    with pytest.raises(ConfigurationError) as caught:
        copy(folder, elsewhere, back=True, key=key)
    assert told in str(caught.value)
    assert not key or str(key) not in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut off", "changed", "empty", "another file"])
def test_a_damaged_copy_brings_back_nothing(folder: Path, tmp_path: Path, damage: str) -> None:
    copy(folder, f"file://{tmp_path}/elsewhere", ONE)
    file = tmp_path / "elsewhere" / f"{NEW}.age"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut off": content[: len(content) * 2 // 3], "changed": content, "empty": b"", "another file": b"no"}
    file.write_bytes(bytes(damaged[damage]))
    (folder / NEW).unlink()
    with pytest.raises(ConfigurationError, match=rf"{NEW}.age cannot be decrypted"):
        copy(folder, f"file://{tmp_path}/elsewhere", back=True, key=ONE)
    assert sorted(path.name for path in folder.iterdir()) == [DUMP, OLD]


def test_plain_copies_that_are_there_already_are_made_again_encrypted_and_not_removed(
    folder: Path, elsewhere: str
) -> None:
    copy(folder, elsewhere)
    assert copy(folder, elsewhere, ONE) == [DUMP, OLD, NEW]
    assert len(there(elsewhere)) == 6
    empty(folder)
    assert copy(folder, elsewhere, back=True, key=ONE) == [DUMP, NEW]


def test_plain_copies_are_warned_of(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy(folder, f"file://{tmp_path}/elsewhere")
    assert "the copies are not encrypted: whoever can read BACKUP_URL reads both databases" in capsys.readouterr().out
    copy(folder, f"file://{tmp_path}/elsewhere", ONE)
    assert "not encrypted" not in capsys.readouterr().out


def test_a_copy_that_was_broken_off_has_no_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/elsewhere"

    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pyrage, "encrypt_io", breaks)
        with pytest.raises(KeyboardInterrupt):
            copy(folder, url, ONE)
    assert there(url) == {}
    assert sorted(path.name for path in folder.iterdir()) == [DUMP, OLD, NEW]
    assert copy(folder, url, ONE) == [DUMP, OLD, NEW]


@pytest.mark.parametrize("back", [True, False])
def test_what_an_attempt_that_was_killed_has_left_is_removed(folder: Path, tmp_path: Path, back: bool) -> None:
    """Else a backup would stay there unencrypted, unnoticed and never removed."""
    url = f"file://{tmp_path}/elsewhere"
    copy(folder, url, ONE)
    (folder / ".sink-20251231T021500Z.bak.age.part").write_bytes(SECRET)
    assert copy(folder, url, ONE, back=back, key=ONE) == []
    assert sorted(path.name for path in folder.iterdir()) == [DUMP, OLD, NEW]


@pytest.mark.parametrize(
    ("text", "told"),
    [("age1x", "word 1 is no public key"), (f"{ONE.to_public()}, {ONE}", "word 2")],
    ids=["nonsense", "private"],
)
def test_what_is_no_public_key_is_refused_and_not_shown(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        encryption.read_recipients(text)
    assert told in str(caught.value)
    assert ("It is a private key" in str(caught.value)) == ("SECRET" in text)
    assert "SECRET" not in str(caught.value)


def test_the_private_key_is_a_secret() -> None:
    settings = Settings(backup_identity=SecretStr(str(ONE)))
    assert str(ONE) in settings.secrets()
    assert str(ONE) not in repr(settings)


def test_a_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    """200 MB through a process that may have 120 MB of data."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    program = (
        "import resource, sys; from pathlib import Path; from etl.storage import encryption\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (120_000_000, 120_000_000))\n"
        "big, there, back = map(Path, sys.argv[1:4])\n"
        "encryption.encrypt(big, there, encryption.read_recipients(sys.argv[4]))\n"
        "from pydantic import SecretStr\n"
        "encryption.decrypt(there, back, SecretStr(sys.argv[5]), 'it')\n"
    )
    paths = [str(tmp_path / name) for name in ("big", "there", "back")]
    command = [sys.executable, "-c", program, *paths, str(ONE.to_public()), str(ONE)]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "back").stat().st_size == 200_000_000
