"""Faults at random on a deployment that works: `make chaos`, and short forms of it in `make e2e` and `make acceptance`.

`schedule` draws from a seed which faults come, when, and for how long; `faults` does them; `campaign` goes through
them while `orders` change at the source and `runs` bring them over, and `invariants` says what must hold throughout and
at the end.
"""
