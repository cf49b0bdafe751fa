"""HTTP to servers on loopback, past the environment's proxies and without connections that outlive a request."""

import httpx

DIRECT = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
