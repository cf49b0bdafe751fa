"""`scripts/apply-all.sh`: turns a checkout and a Kubernetes cluster into a running deployment.

Only the standard library is used, so that a bare machine needs nothing but Python. A run goes through the modules in
this order: cli, preflight, images, volumes, passwords, pulling, rollout, report, first_run; `down`, `bundle` and
`restore` stand beside.
"""
