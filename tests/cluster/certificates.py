"""The cluster's certificates, and the kubeconfig files that carry them."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Self

_DAYS = "365"
"""As K3s makes them. `doctor.sh` names those that end within a month."""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


class Authority:
    """A self-signed certificate authority, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        """Load the authority of a folder, or create it."""
        self._folder = folder
        self._settings = folder / "openssl.cnf"
        if folder.exists():
            return
        folder.mkdir(mode=0o700)
        # The system's openssl.cnf would add extensions.
        self._settings.write_text("[req]\ndistinguished_name = name\n[name]\n")
        # Python 3.13 and later refuse an authority without keyUsage.
        usage = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        self._request("ca", "/CN=cluster", usage)

    @classmethod
    def of_server(cls, folder: Path, name: str, *hosts: str) -> Self:
        """One that has issued the certificate of a server."""
        made = cls(folder / name)
        made.issue(name, name, hosts=hosts)
        return made

    @property
    def certificate(self) -> Path:
        """The certificate that clients must trust."""
        return self.certificate_of("ca")

    @property
    def key(self) -> Path:
        """The signing key."""
        return self.key_of("ca")

    def certificate_of(self, name: str) -> Path:
        """The file of a certificate that was issued."""
        return self._folder / f"{name}.crt"

    def key_of(self, name: str) -> Path:
        """The file of its private key."""
        return self._folder / f"{name}.key"

    def issue(self, name: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> None:
        """Issue a certificate for a Kubernetes user of a group; for a server, with the names it is called by."""
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        extensions = ["extendedKeyUsage=clientAuth,serverAuth", "keyUsage=critical,digitalSignature"]
        if hosts:
            kinds = (f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in hosts)
            extensions.append(f"subjectAltName={','.join(kinds)}")
        self._request(name, subject, tuple(extensions), "-CA", str(self.certificate), "-CAkey", str(self.key))

    def write_kubeconfig(self, name: str, server: str, file: Path) -> None:
        """Write the kubeconfig of a user whose certificate was issued. Only the owner may read it."""
        file.touch(mode=0o600)
        cluster = {"server": server, "certificate-authority-data": _encoded(self.certificate)}
        user = {
            "client-certificate-data": _encoded(self.certificate_of(name)),
            "client-key-data": _encoded(self.key_of(name)),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}],
            "current-context": "cluster",
        }
        file.write_text(json.dumps(config, indent=1))

    def _request(self, name: str, subject: str, extensions: tuple[str, ...], *signer: str) -> None:
        files = ("-keyout", self.key_of(name), "-out", self.certificate_of(name))
        added = (word for extension in extensions for word in ("-addext", extension))
        command = ("openssl", "req", "-x509", "-config", self._settings, "-days", _DAYS, "-subj", subject)
        subprocess.run([*command, *_NEW_KEY, *files, *signer, *added], check=True, capture_output=True)


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
