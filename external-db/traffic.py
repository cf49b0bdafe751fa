"""Traffic on the orders database: inserts and changes orders at a chosen rate.

    python external-db/traffic.py --url postgresql://orders@localhost/orders --rate 20 --count 1000

The password comes from PGPASSWORD, or with the URL from SOURCE_URL: any user of the machine can read arguments.
The same --seed gives the same traffic.
"""

import argparse
import os
import random
import sys
import time

import psycopg

CUSTOMERS = ("Ada", "Björn", "Chloé", "Дмитрий", "Eve", "福岡", "Göksu", "Hans")
STATUSES = ("pending", "confirmed", "confirmed", "shipped", "cancelled", "refunded")
CURRENCIES = ("EUR", "USD", "GBP", "JPY")


def insert_order(connection: psycopg.Connection, choice: random.Random) -> None:
    """Add one order."""
    connection.execute(
        "INSERT INTO orders (customer, status, currency, amount, note) VALUES (%s, %s, %s, %s, %s)",
        (
            f"{choice.choice(CUSTOMERS)} {choice.randrange(1000)}",
            choice.choice(STATUSES),
            choice.choice(CURRENCIES),
            choice.randrange(1_000_000) / 100,
            choice.choice((None, "", "🚚 by traffic.py")),
        ),
    )


def change_order(connection: psycopg.Connection, choice: random.Random) -> None:
    """Change the status and the amount of one order, chosen over the whole table."""
    connection.execute(
        "UPDATE orders SET status = %s, amount = %s WHERE order_id ="
        " (SELECT order_id FROM orders ORDER BY order_id OFFSET floor(%s * (SELECT count(*) FROM orders)) LIMIT 1)",
        (choice.choice(STATUSES), choice.randrange(1_000_000) / 100, choice.random()),
    )


def main() -> None:
    """Run until --count operations are done; without it, until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("SOURCE_URL"), help="default: SOURCE_URL")
    parser.add_argument("--rate", type=float, default=10, help="operations per second; 0: unlimited")
    parser.add_argument("--count", type=int, help="number of operations; default: unlimited")
    parser.add_argument("--inserts", type=float, default=0.5, help="share of inserts among the operations")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.url:
        parser.error("--url or SOURCE_URL must name the orders database")
    choice = random.Random(arguments.seed)  # noqa: S311 - repeatable, not secret
    done, began, printed = 0, time.monotonic(), 0.0
    with psycopg.connect(arguments.url, autocommit=True) as connection:
        while arguments.count is None or done < arguments.count:
            operation = insert_order if choice.random() < arguments.inserts else change_order
            operation(connection, choice)
            done += 1
            if arguments.rate:
                time.sleep(max(0.0, began + done / arguments.rate - time.monotonic()))
            if time.monotonic() - printed > 1:
                printed = time.monotonic()
                print(f"\r{done} operations", end="", file=sys.stderr, flush=True)
    print(f"\r{done} operations, done", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except psycopg.OperationalError as error:
        sys.exit(f"The orders database cannot be reached: {error}")
