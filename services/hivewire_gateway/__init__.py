"""The way in over HTTP: events, direct messages and workers of other networks reach agents through it.

Stateless: any number of replicas may run, and whatever a client was told is stored is in JetStream.
"""

from hivewire_gateway.app import create_app
from hivewire_gateway.configuration import load_settings
from hivewire_gateway.configuration_error import ConfigurationError
from hivewire_gateway.security.static_tokens import new_token, token_line
from hivewire_gateway.server import GatewayServer
from hivewire_gateway.settings import Settings

__all__ = [
    "ConfigurationError",
    "GatewayServer",
    "Settings",
    "create_app",
    "load_settings",
    "new_token",
    "token_line",
]
