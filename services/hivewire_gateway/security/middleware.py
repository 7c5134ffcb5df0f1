"""All that a request passes before a route sees it, in this order."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from hivewire_gateway.security.access_log import AccessLogMiddleware
from hivewire_gateway.security.authentication import AuthenticationMiddleware
from hivewire_gateway.security.authenticator import Authenticator
from hivewire_gateway.security.body_stream import BodyStreamMiddleware
from hivewire_gateway.security.capacity import CapacityMiddleware, RateLimitMiddleware
from hivewire_gateway.security.header_limits import HeaderLimitMiddleware
from hivewire_gateway.security.origins import is_loopback
from hivewire_gateway.settings import Settings

_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
_EXPOSED = (
    "Content-Location",
    "Hivewire-Message-Type",
    "Hivewire-Stream-Id",
    "Retry-After",
    "WWW-Authenticate",
    "X-Duplicate",
)


def security_middleware(settings: Settings) -> list[Middleware]:
    """Return the middleware that protects a gateway with these settings, the outermost first.

    Raises:
        ConfigurationError: of `Authenticator`.
    """
    security, limits = settings.security, settings.limits
    authenticator = Authenticator(security, host=settings.host, has_hooks=bool(settings.hooks))
    return [
        Middleware(BodyStreamMiddleware, limits=limits),
        Middleware(AccessLogMiddleware, everything=settings.access_log),
        Middleware(HeaderLimitMiddleware, limits=limits),
        # Outside of those who refuse, so that a page may read why.
        *_cors(security.cors_origins),
        Middleware(
            AuthenticationMiddleware,
            authenticator=authenticator,
            settings=security,
            on_loopback=is_loopback(settings.host),
        ),
        Middleware(RateLimitMiddleware),
        Middleware(CapacityMiddleware, limits=limits),
    ]


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    if not origins:
        return []
    # No credentials: a token is sent by the page itself, and there are no cookies. An OPTIONS request that asks for the
    # consent to send events has no Access-Control-Request-Method, so it passes on to its route.
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            allow_credentials=False,
        )
    ]
