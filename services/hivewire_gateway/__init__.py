"""The way in over HTTP: events, direct messages and workers of other networks reach agents through it.

Stateless: any number of replicas may run, and whatever a client was told is stored is in JetStream.
"""

from hivewire_gateway.app import create_app
from hivewire_gateway.server import GatewayServer
from hivewire_gateway.settings import Settings

__all__ = ["GatewayServer", "Settings", "create_app"]
