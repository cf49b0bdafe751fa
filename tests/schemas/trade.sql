-- A wholesale trade: no column of time that grows, keys of text and of several columns, a table without a key.
CREATE TABLE categories (category_id smallint PRIMARY KEY, category_name varchar(15) NOT NULL, description text, picture bytea);
CREATE TABLE customers (customer_id varchar(5) PRIMARY KEY, company_name varchar(40) NOT NULL, city varchar(15), fax varchar(24));
CREATE TABLE regions (code text PRIMARY KEY, name bpchar NOT NULL);
CREATE TABLE products (
    product_id smallint PRIMARY KEY, product_name varchar(40) NOT NULL, category_id smallint REFERENCES categories,
    unit_price real, units_in_stock smallint, discontinued integer NOT NULL
);
CREATE TABLE orders (
    order_id integer PRIMARY KEY, customer_id varchar(5) REFERENCES customers,
    order_date date, shipped_date date, freight real, price money, modified timestamp NOT NULL DEFAULT now()
);
CREATE TABLE order_details (
    order_id integer NOT NULL REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE,
    product_id smallint NOT NULL REFERENCES products,
    unit_price real NOT NULL, quantity smallint NOT NULL, discount double precision NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
CREATE TABLE usage (customer_id varchar(5), at time, hits bigint);
CREATE VIEW order_totals AS
SELECT order_id, count(*) AS lines, sum(quantity) AS pieces FROM order_details GROUP BY order_id;

INSERT INTO categories SELECT n, 'category ' || n, 'about ' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 8) n;
INSERT INTO customers SELECT upper(left(md5(n::text), 5)), 'company ' || n, 'city ' || n % 9, NULL
FROM generate_series(1, 90) n ON CONFLICT DO NOTHING;
INSERT INTO regions SELECT 'r' || n, 'region ' || n FROM generate_series(1, 20) n;
INSERT INTO products SELECT n, 'product ' || n, 1 + n % 8, n / 3.0, n, n % 2 FROM generate_series(1, 77) n;
INSERT INTO orders (order_id, customer_id, order_date, freight, price)
SELECT n, (SELECT customer_id FROM customers ORDER BY customer_id OFFSET n % 80 LIMIT 1), date '2026-01-01' + n, n / 7.0, n
FROM generate_series(1, 300) n;
INSERT INTO order_details SELECT n, 1 + (n * k) % 77, n / 3.0, k, n / 11.0
FROM generate_series(1, 300) n, generate_series(1, 3) k ON CONFLICT DO NOTHING;
INSERT INTO usage SELECT customer_id, '12:30', 1 FROM customers;
ANALYZE;
