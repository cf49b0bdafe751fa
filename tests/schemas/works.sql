-- A factory, as a program dumps it: a database of its own, COPY, several schemas, and tables without rows.
DROP DATABASE IF EXISTS works;
CREATE DATABASE works;
\connect works

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE SCHEMA staff;
CREATE SCHEMA sales;
CREATE SCHEMA st;

CREATE DOMAIN public."Flag" AS boolean NOT NULL;
CREATE DOMAIN public."Name" AS character varying(50);
CREATE DOMAIN public.code AS text CONSTRAINT code_check CHECK (VALUE ~ '^[A-Z]{2}-[0-9]+$' OR VALUE = 'XX-1');

CREATE TABLE staff.person (
    id integer GENERATED ALWAYS AS IDENTITY,
    kind character(2) NOT NULL,
    "Title" public."Name",
    active public."Flag" DEFAULT true,
    row_guid uuid DEFAULT gen_random_uuid() NOT NULL,
    modified timestamp without time zone DEFAULT now() NOT NULL,
    CONSTRAINT person_kind CHECK (upper(kind::text) = ANY (ARRAY['SC'::text, 'EM'::text]))
);
CREATE TABLE sales.person (
    person_id integer NOT NULL,
    quota numeric,
    bonus numeric(19,4) DEFAULT 0 NOT NULL,
    CONSTRAINT person_bonus CHECK (bonus >= 0)
);
CREATE TABLE sales.item (
    order_no integer NOT NULL,
    line smallint NOT NULL,
    person_id integer,
    amount numeric(12,2) NOT NULL,
    total numeric(14,2) GENERATED ALWAYS AS (amount * 1.19) STORED,
    photo bytea
);
CREATE TABLE sales.discount (item_no integer NOT NULL, item_line smallint NOT NULL, reason public.code NOT NULL);
CREATE VIEW st.p AS SELECT id, id AS person_id, "Title" FROM staff.person;
CREATE VIEW sales.averages AS SELECT person_id, avg(amount / 1000) AS amount FROM sales.item GROUP BY person_id, line;
CREATE VIEW sales.p AS SELECT DISTINCT person_id, quota FROM sales.person;

COPY staff.person (kind, "Title", active, row_guid, modified) FROM stdin;
SC	Ms.	t	92c4279f-1207-48a3-8448-4636514eb7e2	2009-01-07 00:00:00
EM	\N	f	d8763459-8aa8-47cc-aff7-c9079af79033	2008-01-24 12:00:00.123456
EM	a\tb \\ é	t	e1a2555e-0828-434b-a33b-6f38136a37de	2007-11-04 00:00:00
\.
COPY sales.person (person_id, quota, bonus) FROM stdin;
1	300000.125	2000.0000
2	\N	0.0000
\.

ALTER TABLE ONLY staff.person ADD CONSTRAINT person_pkey PRIMARY KEY (id);
ALTER TABLE ONLY sales.person ADD CONSTRAINT person_pkey PRIMARY KEY (person_id);
ALTER TABLE ONLY sales.item ADD CONSTRAINT item_pkey PRIMARY KEY (order_no, line);
ALTER TABLE ONLY sales.discount ADD CONSTRAINT discount_pkey PRIMARY KEY (reason, item_no);
ALTER TABLE ONLY sales.person ADD CONSTRAINT person_fk FOREIGN KEY (person_id) REFERENCES staff.person(id);
ALTER TABLE ONLY sales.item ADD CONSTRAINT item_fk FOREIGN KEY (person_id) REFERENCES sales.person(person_id);
ALTER TABLE ONLY sales.discount ADD CONSTRAINT discount_fk FOREIGN KEY (item_no, item_line)
    REFERENCES sales.item(order_no, line) ON DELETE CASCADE;
