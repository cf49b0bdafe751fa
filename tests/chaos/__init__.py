"""Fault campaigns on a working deployment: `make chaos`, and short ones in `make e2e` and `make acceptance`.

`schedule` draws faults, times and durations from a seed, and `campaign` injects them (tests/faults), while `orders`
changes the source and `runs` triggers runs; `invariants` must hold after each run and at the end.
"""
