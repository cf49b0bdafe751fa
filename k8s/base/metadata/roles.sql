-- What prepare.sh has psql do, whenever the server starts: `airflow` owns Airflow's database and may do nothing else,
-- `airflow_exporter` reads statistics, and the tables that the Job airflow-migrate lets it read.
\getenv admin_password METADATA_ADMIN_PASSWORD
\getenv owner_password METADATA_PASSWORD
\getenv exporter_password METADATA_EXPORTER_PASSWORD
SET client_min_messages = warning;
DROP ROLE IF EXISTS renaming;
ALTER ROLE postgres PASSWORD :'admin_password';
SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['airflow', 'airflow_exporter']) AS name
WHERE to_regrole(name) IS NULL \gexec
ALTER ROLE airflow LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'owner_password';
ALTER ROLE airflow_exporter LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
PASSWORD :'exporter_password';
GRANT pg_monitor TO airflow_exporter;
SELECT 'CREATE DATABASE airflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'airflow') \gexec
ALTER DATABASE airflow OWNER TO airflow;
\connect airflow
-- What the first role made while it was called `airflow`. A sequence of a table goes with that.
SELECT format('ALTER %s %s OWNER TO airflow', kind, name)
FROM (
    SELECT 'TABLE' AS kind, oid::regclass::text AS name, relnamespace AS schema, relowner AS owner FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm')
    UNION ALL
    SELECT 'SEQUENCE', oid::regclass::text, relnamespace, relowner FROM pg_class WHERE relkind = 'S'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND refobjsubid > 0)
    UNION ALL
    SELECT 'TYPE', oid::regtype::text, typnamespace, typowner FROM pg_type WHERE typtype IN ('e', 'd')
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text, pronamespace, proowner FROM pg_proc
) AS object
WHERE schema = 'public'::regnamespace AND owner <> 'airflow'::regrole \gexec
