"""The SQL that is sent, as text: every name and value quoted, and nothing that is known to be racy."""

from datetime import UTC, datetime

import pytest
from etl.config.sink_logins import SinkLogin
from etl.model.table_name import TableName
from etl.model.window import Partition
from etl.postgres import quoting
from etl.postgres import sql as source_sql
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import ledger, merge_sql, prepare_sql
from etl.sqlserver import sql as sink_sql
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dev.sandbox.pipelines import EVERYTHING, ORDERS, make, whole, window

PIPELINE = make(ORDERS)
STAGING = TableName(schema_name="etl_staging", table="x")
FUTURE = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = window("2026-01-01T00:00:00+01:00", "2026-02-01T00:00:00.000001Z")


def test_updating_touches_only_older_rows() -> None:
    statement = merge_sql.update_newer(
        make(ORDERS, columns={"id": "bigint", "v": "timestamp"}, key=["id"], version="v", filter="id > 0"),
        STAGING,
        whole(),
    )
    assert statement == (
        "UPDATE t SET t.[v] = s.[v] FROM [dbo].[orders] AS t JOIN [etl_staging].[x] AS s"
        " ON t.[id] = s.[id] WHERE t.[v] < s.[v]"
    )


def test_refreshing_touches_rows_that_differ_to_the_byte() -> None:
    pipeline = make(
        ORDERS,
        columns={"id": "bigint", "n": "integer null", "t": "text null", "b": "bytea null", "v": "timestamp"},
        key=["id"],
        version="v",
        filter="id > 0",
    )
    differs = (
        "EXISTS (SELECT s.[n], CONVERT(varbinary(max), s.[t]), s.[b], DATALENGTH(s.[b])"
        " EXCEPT SELECT t.[n], CONVERT(varbinary(max), t.[t]), t.[b], DATALENGTH(t.[b]))"
    )
    wanted = {
        "differing": f"t.[v] < s.[v] OR (t.[v] = s.[v] AND {differs})",
        "all": f"t.[v] <> s.[v] OR (t.[v] = s.[v] AND {differs})",
    }
    for refresh, condition in wanted.items():
        part = Partition(window=WINDOW.model_copy(update={"refresh": refresh}))
        assert merge_sql.update_newer(pipeline, STAGING, part).endswith(f" WHERE {condition}")
        assert f"AND NOT ({condition}) THEN" in merge_sql.count_present(pipeline, STAGING, part)


def test_a_pipeline_of_a_key_and_a_version_can_be_refreshed_too() -> None:
    pipeline = make(ORDERS, columns={"id": "bigint", "v": "timestamp"}, key=["id"], version="v", filter="id > 0")
    part = Partition(window=WINDOW.model_copy(update={"refresh": "differing"}))
    assert "EXISTS (SELECT 1 EXCEPT SELECT 1)" in merge_sql.update_newer(pipeline, STAGING, part)


def test_inserting_touches_only_missing_keys() -> None:
    statement = merge_sql.insert_missing(make(EVERYTHING), STAGING, whole())
    assert statement.endswith(
        "WHERE NOT EXISTS (SELECT 1 FROM [dbo].[Every Thing] AS t"
        " WHERE t.[region] = s.[region] AND t.[serial] = s.[serial])"
    )


def test_the_window_of_the_sink_is_the_window_of_the_source_in_utc() -> None:
    assert (
        "[updated_at] <= CAST(N'2026-02-01T00:00:00.000001' AS datetime2(6))"
        " AND [updated_at] > CAST(N'2025-12-31T23:00:00.000000' AS datetime2(6))"
    ) in sink_checks.count_breaches(PIPELINE, WINDOW, [])
    assert (
        "\"updated_at\" > E'2025-12-31 23:00:00.000000+00'::timestamptz"
        " AND \"updated_at\" <= E'2026-02-01 00:00:00.000001+00'::timestamptz"
    ) in source_sql.count_window(PIPELINE, WINDOW, FUTURE)


def test_only_versions_of_the_window_after_the_watermark_are_taken_from_now() -> None:
    """Up to PostgreSQL 16 nothing infinite can be: a row at an infinite time would fail every plan."""
    assert source_sql.count_window(PIPELINE, WINDOW, FUTURE).partition(", NULL, count(*)")[1]
    assert (
        " AND \"updated_at\" <= E'2026-02-01 00:00:00.000001+00'::timestamptz"
        " AND \"updated_at\" > E'2025-12-31 23:00:00.000000+00'::timestamptz)), count(*)"
    ) in source_sql.count_window(PIPELINE, WINDOW, FUTURE, WINDOW.low)


def test_the_window_of_a_local_version_is_that_of_its_zone_at_both_ends() -> None:
    columns = {**ORDERS["columns"], "updated_at": "timestamp"}
    pipeline = make(ORDERS, columns=columns, version_zone="Asia/Kolkata")
    assert (
        "\"updated_at\" > E'2026-01-01 04:30:00.000000'::timestamp"
        " AND \"updated_at\" <= E'2026-02-01 05:30:00.000001'::timestamp"
    ) in source_sql.extract_rows(pipeline, Partition(window=WINDOW), {})
    assert (
        "[updated_at] <= CAST(N'2026-02-01T05:30:00.000001' AS datetime2(6))"
        " AND [updated_at] > CAST(N'2026-01-01T04:30:00.000000' AS datetime2(6))"
    ) in sink_checks.count_breaches(pipeline, WINDOW, [])


def test_the_filter_is_checked_again_in_the_sink() -> None:
    assert (
        "COUNT_BIG(CASE WHEN [status] COLLATE Latin1_General_BIN2 + N'|' = N'confirmed|' THEN NULL ELSE 1 END)"
        in sink_checks.count_breaches(PIPELINE, WINDOW, [])
    )


def test_a_partition_is_a_range_of_whole_keys() -> None:
    partition = Partition(window=WINDOW, lower=["eu", "a'b"], upper=["us\\", "c"])
    keys = (
        " AND (\"region\", \"serial\") > (E'eu', E'a''b'::uuid)"
        " AND (\"region\", \"serial\") <= (E'us\\\\', E'c'::uuid) "
    )
    assert keys in source_sql.extract_rows(make(EVERYTHING), partition, {})


def test_the_tables_are_keyed_and_staging_is_a_heap() -> None:
    orders = sink_sql.create_table(sink_sql.sink_table(PIPELINE))
    assert orders.startswith(
        "CREATE TABLE [dbo].[orders] ([order_id] bigint NOT NULL, [customer] nvarchar(100) NOT NULL,"
    )
    assert orders.endswith(", PRIMARY KEY ([order_id]), INDEX [ix_updated_at] ([updated_at]))")
    staging = sink_sql.create_table(sink_sql.staging_table(PIPELINE, "x"))
    assert "PRIMARY KEY" not in staging
    assert "INDEX" not in staging


def test_the_index_of_a_table_that_is_there_is_the_one_that_it_would_have_been_made_with() -> None:
    table = sink_sql.sink_table(make(ORDERS, sink="dbo.o]rders"))
    assert sink_sql.create_index(table) == "CREATE INDEX [ix_updated_at] ON [dbo].[o]]rders] ([updated_at])"
    audit, *_ = ledger.tables()
    assert sink_sql.create_index(audit).startswith("CREATE INDEX [ix_pipeline_loaded_at] ON [etl].[audit]")
    longest = make(ORDERS, version="v" * 63, columns={**ORDERS["columns"], "v" * 63: "timestamp"})
    assert len(sink_sql.create_index(sink_sql.sink_table(longest)).split("]")[0]) <= len("CREATE INDEX [") + 128


INDEX_ROWS = [(1, True, "region"), (1, True, "serial"), (2, False, "local"), (2, False, "serial"), (5, True, "big")]


def test_what_the_indexes_of_a_sink_spare() -> None:
    pipeline = make(EVERYTHING)
    table = sink_sql.sink_table(pipeline)
    indexes = sink_checks.read_indexes(INDEX_ROWS)
    assert [index.columns for index in indexes] == [("region", "serial"), ("local", "serial"), ("big",)]
    assert sink_checks.index_advice(table, indexes) == ""
    assert sink_sql.create_index(table) in sink_checks.index_advice(table, indexes[:1])
    assert sink_checks.has_unique_key(pipeline, indexes[:1])
    assert not sink_checks.has_unique_key(pipeline, indexes[1:]), "unique, but for another column than the key's"
    assert sink_checks.has_unique_key(pipeline, sink_checks.read_indexes([(3, True, "serial")]))


def test_no_null_is_looked_for_where_the_sink_lets_none_in() -> None:
    required = [name for name, column in PIPELINE.types.items() if not column.nullable]
    assert " IS NULL" not in sink_checks.count_breaches(PIPELINE, WINDOW, required)
    assert "CASE WHEN [status] IS NULL THEN 1 END" in sink_checks.count_breaches(
        PIPELINE, WINDOW, [name for name in required if name != "status"]
    )


def test_text_keys_tell_case_in_sink_and_staging_alike() -> None:
    pipeline = make(EVERYTHING)
    for table in (sink_sql.sink_table(pipeline), sink_sql.staging_table(pipeline, "x")):
        statement = sink_sql.create_table(table)
        assert "[region] nvarchar(8) COLLATE Latin1_General_BIN2 NOT NULL" in statement
        assert "[short] nvarchar(10) NULL" in statement


def test_no_statement_merges() -> None:
    for write in (merge_sql.update_newer, merge_sql.insert_missing):
        assert "MERGE" not in write(PIPELINE, STAGING, whole())


def test_a_part_of_the_keys_is_looked_for_in_that_part_of_the_sink_only() -> None:
    part = Partition(window=WINDOW, lower=["5"], upper=["9"])
    assert merge_sql.count_present(PIPELINE, STAGING, part).endswith(
        " ON t.[order_id] = s.[order_id] AND t.[order_id] >= 5 AND t.[order_id] <= 9) AS compared"
    )
    by_text = part.model_copy(update={"lower": ["eu", "1"], "upper": None})
    assert "'eu'" not in merge_sql.count_present(make(EVERYTHING), STAGING, by_text)


@given(st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_whatever_is_quoted_stays_one_token(text: str) -> None:
    """Undone the way the server does it, the text is there again and nothing is left over."""
    assert sink_sql.quote_name(text)[1:-1].replace("]]", "").count("]") == 0
    assert sink_sql.quote_text(text)[2:-1].replace("''", "").count("'") == 0
    assert quoting.quote_name(text)[1:-1].replace('""', "").count('"') == 0
    inner = quoting.quote_text(text)[2:-1].replace("\\\\", "").replace("''", "")
    assert "'" not in inner
    assert "\\" not in inner


def test_a_login_is_created_and_changed_with_its_password_quoted() -> None:
    login = SinkLogin("sink", "e]tl", SecretStr("a'b]c"))
    created = "CREATE LOGIN [e]]tl] WITH PASSWORD = N'a''b]c'"
    assert prepare_sql.create_login(login) == f"{created}, DEFAULT_LANGUAGE = us_english"
    assert prepare_sql.create_login(login, b"\x01\xff", is_azure=True) == f"{created}, SID = 0x01ff"
    assert prepare_sql.change_password(login) == "ALTER LOGIN [e]]tl] WITH PASSWORD = N'a''b]c'"
    assert prepare_sql.create_user(login) == "CREATE USER [e]]tl] FOR LOGIN [e]]tl]"
    assert prepare_sql.change_login(login) == "ALTER USER [e]]tl] WITH LOGIN = [e]]tl]"
    assert prepare_sql.add_member(login) == "ALTER ROLE [etl_loader] ADD MEMBER [e]]tl]"
    assert "a'b" not in repr(login)


def test_a_new_database_is_one_whose_readers_wait_for_no_load() -> None:
    assert prepare_sql.create_database("s]k") == [
        "CREATE DATABASE [s]]k]",
        "ALTER DATABASE [s]]k] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE",
        "ALTER DATABASE [s]]k] SET AUTO_CLOSE OFF",
        "ALTER DATABASE [s]]k] SET RECOVERY SIMPLE",
    ]
    assert prepare_sql.create_database("s]k", is_managed=True) == prepare_sql.create_database("s]k")[:2]


def test_the_loader_may_delete_rows_where_a_pipeline_could() -> None:
    statements = prepare_sql.grants()
    assert statements == [
        "GRANT CREATE TABLE TO [etl_loader]",
        "GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[audit] TO [etl_loader]",
        "GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[watermark] TO [etl_loader]",
        "GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[settled] TO [etl_loader]",
        "GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[replaced] TO [etl_loader]",
        "GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[backfill] TO [etl_loader]",
        "GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[log_position] TO [etl_loader]",
        "GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[verification] TO [etl_loader]",
        "GRANT ALTER, SELECT, INSERT, UPDATE, DELETE ON SCHEMA::[dbo] TO [etl_loader]",
    ]


def test_with_named_pipelines_the_loader_may_change_no_schema_but_that_of_staging() -> None:
    further = make(EVERYTHING, mode="replace", version=None, deletes="delete", on_new_source_column="add")
    statements = prepare_sql.grants([PIPELINE, further])
    assert statements[:8] == prepare_sql.grants()[:8]
    assert statements[8:] == [
        "GRANT SELECT, INSERT, UPDATE ON OBJECT::[dbo].[orders] TO [etl_loader]",
        "GRANT SELECT, INSERT, UPDATE, DELETE, ALTER ON OBJECT::[dbo].[Every Thing] TO [etl_loader]",
        "REVOKE ALTER, SELECT, INSERT, UPDATE, DELETE ON SCHEMA::[dbo] FROM [etl_loader]",
        "REVOKE DELETE ON OBJECT::[dbo].[orders] FROM [etl_loader]",
        "REVOKE ALTER ON OBJECT::[dbo].[orders] FROM [etl_loader]",
    ]


@pytest.mark.parametrize("timeout", [0, 5000])
def test_the_lock_ends_with_the_transaction(timeout: int) -> None:
    statement = sink_sql.lock("etl: dbo.o'rders", timeout)
    assert "@Resource = N'etl: dbo.o''rders'" in statement
    assert "@LockOwner = N'Transaction'" in statement
    assert f"@LockTimeout = {timeout};" in statement
    assert "@LockOwner = N'Session'" in sink_sql.lock("etl: dbo.o'rders", timeout, "Session")


def test_a_backup_is_checked_and_leaves_other_backups_alone() -> None:
    assert prepare_sql.backup_database("a]b", "/it's/x.bak") == (
        "BACKUP DATABASE [a]]b] TO DISK = N'/it''s/x.bak' WITH COPY_ONLY, CHECKSUM"
    )
    assert prepare_sql.verify_backup("/it's") == "RESTORE VERIFYONLY FROM DISK = N'/it''s' WITH CHECKSUM"


def test_a_restore_takes_the_place_of_a_database_that_nobody_is_in() -> None:
    assert prepare_sql.take_offline("a]b") == "ALTER DATABASE [a]]b] SET OFFLINE WITH ROLLBACK IMMEDIATE"
    assert prepare_sql.restore_database("a]b", "/it's") == (
        "RESTORE DATABASE [a]]b] FROM DISK = N'/it''s' WITH CHECKSUM, REPLACE"
    )
