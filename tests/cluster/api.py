"""Objects of the cluster's API server, kept up to date by a watch."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]
_AGAIN_SECONDS = 0.5
_WATCH_SECONDS = 300


class Api:
    """The API server, as the user of a certificate."""

    def __init__(self, server: str, authority: str, certificate: str, key: str) -> None:
        self._place = urlsplit(server)
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.load_cert_chain(certificate, key)

    def lines(self, path: str) -> Iterator[Object]:
        """The JSON documents that it answers with, one a line. Raises OSError or HTTPException."""
        seconds = _WATCH_SECONDS + 30
        connection = http.client.HTTPSConnection(self._place.netloc, context=self._tls, timeout=seconds)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise http.client.HTTPException(f"{path}: {response.status} {response.reason}")
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()


class Watched:
    """The objects of one kind as they are now. `changed` is set whenever they change."""

    def __init__(self, api: Api, path: str, changed: threading.Event) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self.is_complete = False
        """Whether all were listed once."""

    def objects(self) -> list[Object]:
        """All of them."""
        with self._lock:
            return list(self._objects.values())

    def run(self) -> None:
        """Keep them up to date, for ever; while the API server is away they stay as they were."""
        while True:
            try:
                self._follow(self._list())
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"{self._path} is asked for again: {error!r}", flush=True)
                time.sleep(_AGAIN_SECONDS)

    def _list(self) -> str:
        (listed,) = self._api.lines(self._path)
        with self._lock:
            self._objects = {item["metadata"]["uid"]: item for item in listed["items"]}
        self.is_complete = True
        self._changed.set()
        return str(listed["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        """Take in changes until the watch ends; it does so after some minutes."""
        query = f"watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"
        for event in self._api.lines(f"{self._path}?{query}"):
            if event["type"] == "ERROR":
                return
            item = event["object"]
            with self._lock:
                if event["type"] == "DELETED":
                    self._objects.pop(item["metadata"]["uid"], None)
                else:
                    self._objects[item["metadata"]["uid"]] = item
            self._changed.set()
