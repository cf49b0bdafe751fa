-- A rental shop: domains, an enum, arrays, a text search column, times by trigger, a partitioned table, views.
CREATE TYPE rating AS ENUM ('G', 'PG', 'R', 'NC-17');
CREATE DOMAIN year AS integer CHECK (VALUE BETWEEN 1901 AND 2155);
CREATE DOMAIN label AS varchar(60) NOT NULL;
CREATE DOMAIN short_label AS label CHECK (length(VALUE) < 40);

CREATE FUNCTION last_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.last_update = CURRENT_TIMESTAMP;
    RETURN NEW;
END $$;

CREATE TABLE language (language_id serial PRIMARY KEY, name char(20) NOT NULL, last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE film (
    film_id serial PRIMARY KEY, title short_label, description text, release_year year,
    language_id smallint NOT NULL REFERENCES language, rental_rate numeric(4,2) NOT NULL DEFAULT 4.99, weight numeric,
    rating rating DEFAULT 'G', features text[], words tsvector, running interval,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE category (category_id smallint PRIMARY KEY, name label);
CREATE TABLE film_category (
    film_id integer NOT NULL REFERENCES film ON DELETE CASCADE,
    category_id smallint NOT NULL REFERENCES category,
    PRIMARY KEY (film_id, category_id)
);
CREATE TABLE customer (
    customer_id serial PRIMARY KEY, first_name label, email text, active boolean NOT NULL DEFAULT true,
    created date NOT NULL DEFAULT CURRENT_DATE, last_update timestamptz DEFAULT now()
);
CREATE TABLE payment (
    payment_id integer NOT NULL, customer_id integer, amount numeric(5,2) NOT NULL, paid timestamptz NOT NULL,
    PRIMARY KEY (payment_id, paid)
) PARTITION BY RANGE (paid);
CREATE TABLE payment_1 PARTITION OF payment FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE payment_2 PARTITION OF payment DEFAULT;
CREATE TABLE note (at timestamp, body jsonb, sender inet, mood rating);

CREATE TRIGGER last_updated BEFORE UPDATE ON language FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE TRIGGER last_updated BEFORE UPDATE ON film FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE TRIGGER last_updated BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION last_updated();

CREATE VIEW film_list AS
SELECT f.film_id AS fid, f.title, c.name AS category, f.rental_rate AS price, f.rating
FROM film f LEFT JOIN film_category fc USING (film_id) LEFT JOIN category c USING (category_id);
CREATE MATERIALIZED VIEW sales AS SELECT customer_id, sum(amount) AS total FROM payment GROUP BY 1;
CREATE VIEW customers_of_payments AS SELECT DISTINCT customer_id, first_name FROM payment JOIN customer USING (customer_id);

INSERT INTO language (name) VALUES ('English'), ('Deutsch'), ('日本語');
INSERT INTO film (title, description, release_year, language_id, weight, rating, features, words, running)
SELECT 'film ' || n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'déjà vu 🎬 ' || n END, 1950 + n % 70, 1 + n % 3,
    n / 7.0::numeric(9,4), (enum_range(NULL::rating))[1 + n % 4], ARRAY['a', NULL, 'b "c"'], to_tsvector('simple', 'film no ' || n),
    n * interval '61 seconds'
FROM generate_series(1, 200) n;
INSERT INTO category SELECT n, 'category ' || n FROM generate_series(1, 12) n;
INSERT INTO film_category SELECT n, 1 + (n + k) % 12 FROM generate_series(1, 200) n, generate_series(1, 5) k;
INSERT INTO customer (first_name, email, active) SELECT 'person ' || n, n || '@example.com', n % 4 > 0 FROM generate_series(1, 120) n;
INSERT INTO payment SELECT n, 1 + n % 120, n % 900 / 100.0, timestamptz '2026-01-15' + n * interval '1 hour'
FROM generate_series(1, 400) n;
INSERT INTO note SELECT timestamp '2026-01-01' + n * interval '1.5 s', jsonb_build_object('n', n), '10.0.0.1', 'PG'
FROM generate_series(1, 40) n;
INSERT INTO note SELECT * FROM note LIMIT 5;
REFRESH MATERIALIZED VIEW sales;
ANALYZE;
