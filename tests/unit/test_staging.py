"""A step's output is seen whole or not at all, on a volume and in S3."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError
from etl.storage.staging import Manifest, Staging, run_folder

from dev.sandbox.pipelines import whole

RUN = "manual__2026-01-01T00:00:00+00:00"


@pytest.fixture(params=["file", "s3"])
def staging_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}" if request.param == "file" else str(request.getfixturevalue("s3_url"))


def stage(url: str, run_id: str = RUN) -> Staging:
    return Staging(Settings(staging_url=url), "orders", run_id, "0001")


def write(staging: Staging, text: bytes, extracted: int) -> Manifest:
    name = f"{staging.new_folder('extract')}/rows"
    with staging.writing(name) as file:
        file.write(text)
    manifest = Manifest(partition=whole(), fingerprint="f", files={"rows": name}, extracted=extracted)
    staging.publish("extract", manifest)
    return manifest


def test_what_was_published_is_read_back(staging_url: str) -> None:
    manifest = write(stage(staging_url), b"one", 1)
    found = stage(staging_url).manifest("extract", "f")
    assert found == manifest
    with stage(staging_url).reading(found.files["rows"]) as file:
        assert file.read() == b"one"


def test_a_repeated_step_replaces_the_earlier_output(staging_url: str) -> None:
    first = write(stage(staging_url), b"one", 1)
    second = write(stage(staging_url), b"two", 2)
    assert stage(staging_url).manifest("extract", "f") == second
    with pytest.raises(TryAgainError, match="is gone"), stage(staging_url).reading(first.files["rows"]):
        pass


def test_files_without_a_manifest_are_not_seen(staging_url: str) -> None:
    staging = stage(staging_url, run_id="another run")
    with staging.writing(f"{staging.new_folder('extract')}/rows") as file:
        file.write(b"half")
    with pytest.raises(TryAgainError, match="run `etl extract` first"):
        staging.manifest("extract", "f")


def test_output_of_another_definition_is_refused(staging_url: str) -> None:
    write(stage(staging_url), b"one", 1)
    with pytest.raises(ConfigurationError, match="changed after"):
        stage(staging_url).manifest("extract", "another fingerprint")


def test_old_runs_are_swept_and_young_ones_kept(staging_url: str) -> None:
    write(stage(staging_url), b"one", 1)
    assert stage(staging_url).sweep(datetime.now(UTC) - timedelta(days=1)) == 0
    assert stage(staging_url).manifest("extract", "f").extracted == 1
    assert stage(staging_url).sweep(datetime.now(UTC) + timedelta(days=1)) >= 1
    with pytest.raises(TryAgainError):
        stage(staging_url).manifest("extract", "f")


def test_an_old_run_that_could_write_nothing_is_swept_too(tmp_path: Path) -> None:
    staging = stage(f"file://{tmp_path}")
    with pytest.raises(TryAgainError), staging.writing(f"{staging.new_folder('extract')}/rows"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list((tmp_path / "orders").iterdir())
    assert stage(f"file://{tmp_path}").sweep(datetime.now(UTC) + timedelta(days=1)) == 1
    assert not list((tmp_path / "orders").iterdir())


def test_the_folder_of_one_partition_is_removed_and_no_other(staging_url: str) -> None:
    staging = stage(f"{staging_url}/apart")
    for run_id in ("one", "two"):
        made = stage(f"{staging_url}/apart", run_id)
        with made.writing(f"{made.new_folder('extract')}/rows.parquet") as file:
            file.write(b"rows")
    first, second = sorted(staging.partitions())
    (path,) = staging.tables(first)
    with staging.opened(path) as file:
        assert file.read() == b"rows"
    staging.remove(first)
    assert stage(f"{staging_url}/apart").partitions() == [second]
    assert len(staging.tables(second)) == 1


def test_runs_whose_ids_differ_only_in_signs_do_not_share_a_folder() -> None:
    folders = {run_folder(run_id) for run_id in ("a:b", "a+b", "a/b", "a_b", "..", "a" * 250, "a" * 249)}
    assert len(folders) == 7
    assert all("/" not in folder and not folder.startswith(".") for folder in folders)


def test_an_unknown_medium_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="STAGING_URL"):
        stage("carrier-pigeon://loft")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="check its owner"):
        write(stage(f"file://{tmp_path}"), b"one", 1)
