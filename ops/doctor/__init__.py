"""`scripts/doctor.sh`: diagnoses a running deployment, and says what is wrong and what to do.

Everything is read into a `snapshot` first (`gathering`, `airflow`, `outside`, `probing`). `checks` look at nothing else
and return `findings`; `report` prints those that no other finding explains. Only the standard library is used, as in
ops/deploy.
"""
