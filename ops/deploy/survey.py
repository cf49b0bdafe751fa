"""What preflight has found, for what comes after it."""

from dataclasses import dataclass, field

from ops.cluster.names import UI_NAME
from ops.cluster.nodes import Node
from ops.cluster.secret_keys import Key
from ops.deploy.images.builders import Builder
from ops.deploy.manifests import trust
from ops.deploy.manifests.network import Networks
from ops.deploy.manifests.overlays import DEFAULT
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.secrets.certificates import SQL_SERVER, Wanted, for_ui


@dataclass
class Survey:
    """What was found, and what stands in the way."""

    overlay: str = DEFAULT
    rendering: Rendering = field(default_factory=lambda: Rendering([], []))
    nodes: list[Node] = field(default_factory=list)
    data_node: Node | None = None
    builder: Builder | None = None
    secret_keys: set[Key] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)
    """The known digests of pulled images, by image and tag."""
    digests_before: dict[str, str] = field(default_factory=dict)
    networks: Networks = field(default_factory=Networks)
    source_address: str = ""
    trust: dict[str, str] = field(default_factory=dict)
    """Whom to believe, and by which names."""
    source_password: str | None = None
    asks_for_source_password: bool = False
    oidc_secret: str | None = None
    """Of the client at the identity provider."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def this_node(self) -> Node | None:
        """The node into which images are imported: this machine, or the only one there is."""
        here = [node for node in self.nodes if node.is_this_machine]
        return here[0] if here else self.nodes[0] if len(self.nodes) == 1 else None

    @property
    def certificates(self) -> list[Wanted]:
        """Those that are to be there."""
        node = self.data_node
        ui = for_ui([self.trust.get(UI_NAME, ""), *([node.name, node.address] if node else [])])
        shown = [item for item in self.rendering.of_kind("Ingress") if item["spec"].get("tls")]
        return [*([SQL_SERVER] if trust.has_sql_server(self.rendering) else []), *([ui] if shown and node else [])]

    @property
    def has_data_here(self) -> bool:
        """Whether the volumes lie on this machine."""
        return self.data_node is not None and self.data_node.is_this_machine
