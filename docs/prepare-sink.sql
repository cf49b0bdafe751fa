-- What `etl prepare-sink` sends to a SQL Server that has nothing of this yet, as its administrator, for a review.
-- Replace the passwords. On a server that has a part of it, prepare-sink sends only what is missing, and the grants.
USE [master];
GO
CREATE DATABASE [sink];
GO
ALTER DATABASE [sink] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE;
GO
ALTER DATABASE [sink] SET AUTO_CLOSE OFF;
GO
ALTER DATABASE [sink] SET RECOVERY SIMPLE;
GO
CREATE LOGIN [etl] WITH PASSWORD = N'Password of the loader', DEFAULT_LANGUAGE = us_english;
GO
USE [sink];
GO
CREATE USER [etl] FOR LOGIN [etl];
GO
CREATE ROLE [etl_loader];
GO
ALTER ROLE [etl_loader] ADD MEMBER [etl];
GO
USE [master];
GO
CREATE LOGIN [etl_exporter] WITH PASSWORD = N'Password of the exporter', DEFAULT_LANGUAGE = us_english;
GO
USE [sink];
GO
CREATE USER [etl_exporter] FOR LOGIN [etl_exporter];
GO
CREATE ROLE [etl_metrics];
GO
ALTER ROLE [etl_metrics] ADD MEMBER [etl_exporter];
GO
CREATE SCHEMA [etl] AUTHORIZATION [dbo];
GO
CREATE SCHEMA [etl_staging] AUTHORIZATION [etl_loader];
GO
CREATE TABLE [etl].[audit] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [run_id] nvarchar(250) COLLATE Latin1_General_BIN2 NOT NULL, [partition_id] nvarchar(16) COLLATE Latin1_General_BIN2 NOT NULL, [window_low] datetime2(6) NULL, [window_high] datetime2(6) NOT NULL, [extracted] bigint NOT NULL, [kept] bigint NOT NULL, [dropped] bigint NOT NULL, [rejected] bigint NOT NULL, [inserted] bigint NOT NULL, [updated] bigint NOT NULL, [unchanged] bigint NOT NULL, [standing] bigint NOT NULL, [deleted] bigint NULL, [marked] bigint NULL, [adjusted] bigint NULL, [fingerprint] nvarchar(16) NOT NULL, [checksum] nvarchar(16) NOT NULL, [loaded_at] datetime2(6) NOT NULL, [window_low_number] bigint NULL, [window_high_number] bigint NULL, PRIMARY KEY ([pipeline], [run_id], [partition_id]), INDEX [ix_pipeline_loaded_at] ([pipeline], [loaded_at]));
GO
CREATE TABLE [etl].[watermark] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [value] datetime2(6) NOT NULL, [run_id] nvarchar(250) NOT NULL, [advanced_at] datetime2(6) NOT NULL, [value_number] bigint NULL, PRIMARY KEY ([pipeline]));
GO
CREATE TABLE [etl].[settled] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [value] datetime2(6) NOT NULL, [pending] datetime2(6) NOT NULL, [xmax] bigint NOT NULL, [run_id] nvarchar(250) NOT NULL, [value_number] bigint NULL, [pending_number] bigint NULL, PRIMARY KEY ([pipeline]));
GO
CREATE TABLE [etl].[replaced] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [definition] nvarchar(16) NOT NULL, [source_rows] bigint NOT NULL, [source_hash] nvarchar(48) NOT NULL, [sink_rows] bigint NOT NULL, [read_at] datetime2(6) NOT NULL, [run_id] nvarchar(250) NOT NULL, PRIMARY KEY ([pipeline]));
GO
CREATE TABLE [etl].[backfill] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [column_name] nvarchar(63) COLLATE Latin1_General_BIN2 NOT NULL, [added_at] datetime2(6) NOT NULL, [filled_at] datetime2(6) NULL, [run_id] nvarchar(250) NULL, PRIMARY KEY ([pipeline], [column_name]));
GO
CREATE TABLE [etl].[log_position] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [slot] nvarchar(63) NOT NULL, [lsn] nvarchar(17) NOT NULL, [system_identifier] nvarchar(20) NOT NULL, [timeline] bigint NOT NULL, [publication] nvarchar(64) NOT NULL, [run_id] nvarchar(250) NOT NULL, [advanced_at] datetime2(6) NOT NULL, [window_low] nvarchar(17) NULL, [inserts] bigint NULL, [updates] bigint NULL, [deletes] bigint NULL, [truncates] bigint NULL, [images] bigint NULL, [kept] bigint NULL, [superseded] bigint NULL, [applied] bigint NULL, PRIMARY KEY ([pipeline]));
GO
CREATE TABLE [etl].[verification] ([pipeline] nvarchar(48) COLLATE Latin1_General_BIN2 NOT NULL, [run_id] nvarchar(250) COLLATE Latin1_General_BIN2 NOT NULL, [mode] nvarchar(8) NOT NULL, [started_at] datetime2(6) NOT NULL, [ended_at] datetime2(6) NOT NULL, [source_rows] bigint NOT NULL, [sink_rows] bigint NOT NULL, [equal_rows] bigint NOT NULL, [missing] bigint NOT NULL, [older] bigint NOT NULL, [newer] bigint NOT NULL, [different] bigint NOT NULL, [extra] bigint NOT NULL, [pending] bigint NOT NULL, [leaving] bigint NOT NULL, [unmatched] bigint NOT NULL, [deleted] bigint NOT NULL, [rejected] bigint NOT NULL, [repaired] bigint NOT NULL, [verdict] nvarchar(16) NOT NULL, PRIMARY KEY ([pipeline], [run_id]));
GO
CREATE TABLE [dbo].[orders] ([order_id] bigint NOT NULL, [customer] nvarchar(100) NOT NULL, [status] nvarchar(16) NOT NULL, [currency] nchar(3) NOT NULL, [amount] decimal(12,2) NOT NULL, [note] nvarchar(max) NULL, [created_at] datetime2(6) NOT NULL, [updated_at] datetime2(6) NOT NULL, PRIMARY KEY ([order_id]), INDEX [ix_updated_at] ([updated_at]));
GO
GRANT CREATE TABLE TO [etl_loader];
GO
GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[audit] TO [etl_loader];
GO
GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[watermark] TO [etl_loader];
GO
GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[settled] TO [etl_loader];
GO
GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[replaced] TO [etl_loader];
GO
GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[backfill] TO [etl_loader];
GO
GRANT SELECT, INSERT, UPDATE ON OBJECT::[etl].[log_position] TO [etl_loader];
GO
GRANT SELECT, INSERT, DELETE ON OBJECT::[etl].[verification] TO [etl_loader];
GO
GRANT SELECT, INSERT, UPDATE ON OBJECT::[dbo].[orders] TO [etl_loader];
GO
REVOKE ALTER, SELECT, INSERT, UPDATE, DELETE ON SCHEMA::[dbo] FROM [etl_loader];
GO
REVOKE DELETE ON OBJECT::[dbo].[orders] FROM [etl_loader];
GO
REVOKE ALTER ON OBJECT::[dbo].[orders] FROM [etl_loader];
GO
GRANT SELECT ON OBJECT::[etl].[audit] TO [etl_metrics];
GO
GRANT SELECT ON OBJECT::[etl].[watermark] TO [etl_metrics];
GO
GRANT SELECT ON OBJECT::[etl].[log_position] TO [etl_metrics];
GO
