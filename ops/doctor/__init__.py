"""`scripts/doctor.sh`: looks at a running deployment from the outside in, and says what is wrong and what to do.

First everything is gathered (`access`, `gathering`, `airflow`, `probing`) into a `snapshot`; then `checks`, which look
at nothing else, make `findings` of it, and `report` shows those that no other one explains. Only the standard library
is used, as in ops/deploy.
"""
