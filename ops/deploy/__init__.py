"""`scripts/apply-all.sh`: deploys a checkout to a Kubernetes cluster.

Only the standard library is used, so that a bare machine needs nothing but Python. `up` runs preflight, images, data,
secrets, the rollout of the manifests, final_checks, report and first_run; `down`, bundles, `restore` and `erase` are
commands of their own.
"""
