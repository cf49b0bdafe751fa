"""Backups off the machine and back: what the other side lacks, whole, and nothing removed."""

from pathlib import Path

import boto3
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError
from etl.storage.backup_copy import copy_backups

OLD, NEW, DUMP = "sink-20260101T021500Z.bak", "sink-20260102T021500Z.bak", "metadata-20260101T011500Z.dump"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the backups."""
    made = tmp_path / "backup"
    made.mkdir()
    for name in (OLD, NEW, DUMP, "sink-20260103T021500Z.bak.part", "notes.txt"):
        (made / name).write_text(f"the content of {name}")
    return made


def copy(folder: Path, url: str, *, back: bool = False) -> list[str]:
    return copy_backups(Settings(backup_folder=folder, backup_url=url), back=back)


def test_what_is_missing_there_is_copied_and_only_once(folder: Path, elsewhere: str) -> None:
    assert copy(folder, elsewhere) == [DUMP, OLD, NEW]
    assert copy(folder, elsewhere) == []
    (folder / OLD).unlink()
    (folder / "sink-20260104T021500Z.bak").write_text("one more")
    assert copy(folder, elsewhere) == ["sink-20260104T021500Z.bak"]


def test_a_copy_that_was_broken_off_is_made_again(folder: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/elsewhere"
    copy(folder, url)
    (tmp_path / "elsewhere" / OLD).write_text("half")
    assert copy(folder, url) == [OLD]


def test_the_newest_of_each_database_comes_back(folder: Path, elsewhere: str) -> None:
    copy(folder, elsewhere)
    for path in list(folder.iterdir()):
        path.unlink()
    assert copy(folder, elsewhere, back=True) == [DUMP, NEW]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: f"the content of {name}" for name in (DUMP, NEW)
    }
    assert copy(folder, elsewhere, back=True) == []


def test_where_there_are_no_copies_none_come_back(folder: Path, elsewhere: str) -> None:
    assert copy(folder, elsewhere, back=True) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "BACKUP_URL is not set"),
        ("nothing://bucket", "BACKUP_URL .* cannot be used"),
        ("file:///proc/nothing", "A backup cannot be copied"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, url: str | None, told: str) -> None:
    with pytest.raises((ConfigurationError, TryAgainError), match=told):
        copy_backups(Settings(backup_folder=folder, backup_url=url), back=False)


def test_a_bucket_that_is_not_there_is_told_and_not_made(folder: Path, s3_url: str) -> None:
    with pytest.raises((ConfigurationError, TryAgainError), match="A backup cannot be copied"):
        copy(folder, "s3://no-such-bucket/etl")
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == ["staging"]
