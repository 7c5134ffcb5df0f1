"""Which principal a token belongs to, and what it may do."""

from __future__ import annotations

from hivewire_gateway.configuration_error import ConfigurationError
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.json_web_tokens import InvalidTokenError, JsonWebTokens
from hivewire_gateway.security.key_sets import KeysUnavailableError
from hivewire_gateway.security.origins import is_loopback
from hivewire_gateway.security.principals import UNRESTRICTED, Principal
from hivewire_gateway.security.secrets import WatchedSecret
from hivewire_gateway.security.settings import SecuritySettings
from hivewire_gateway.security.static_tokens import StaticTokens

ANONYMOUS = "anonymous"
_RETRY_AFTER_S = 10


class Authenticator:
    """Knows the principals.

    Args:
        has_hooks: Whether webhooks of others come in, which need no token.

    Raises:
        ConfigurationError: with these settings nobody could use a gateway at `host`, or everybody could without that
            having been asked for, or a secret can't be read.
    """

    def __init__(self, settings: SecuritySettings, *, host: str, has_hooks: bool = False) -> None:
        self._settings = settings
        self._may_be_anonymous = _may_be_anonymous(settings, host, has_hooks=has_hooks)
        self._tokens: WatchedSecret[StaticTokens] | None = None
        self._jwt: JsonWebTokens | None = None
        try:
            if settings.tokens is not None:
                self._tokens = WatchedSecret(settings.tokens, StaticTokens.parse)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"security.tokens: can't use {settings.tokens}: {error}") from None
        try:
            if settings.jwt is not None:
                self._jwt = JsonWebTokens.from_settings(settings.jwt)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"security.jwt.jwks_file: {error}") from None

    async def with_token(self, token: str) -> Principal:
        """Return whose token it is.

        Raises:
            Problem: 401, nobody's; 503, it can't be told now.
        """
        name = self._tokens.value.principal_name(token) if self._tokens is not None else None
        if name is None:
            if self._jwt is None:
                raise _unauthorized("The token is not known here.", error="invalid_token")
            name = await self._name_by_jwt(self._jwt, token)
        return self._named(name)

    def anonymous(self) -> Principal:
        """Return the principal of requests without a token.

        Raises:
            Problem: 401, they are not taken.
        """
        if not self._may_be_anonymous:
            raise _unauthorized("A token is needed: send Authorization: Bearer.")
        if ANONYMOUS not in self._settings.principals:
            return UNRESTRICTED
        return self._named(ANONYMOUS)

    def _named(self, name: str) -> Principal:
        entry = self._settings.principals.get(name, self._settings.defaults)
        return Principal(name=name, permissions=entry.permissions, rates=entry.limits)

    async def _name_by_jwt(self, tokens: JsonWebTokens, token: str) -> str:
        try:
            return await tokens.principal_name(token)
        except InvalidTokenError as error:
            raise _unauthorized(f"The token is not accepted: {error}.", error="invalid_token") from None
        except KeysUnavailableError as error:
            headers = {"Retry-After": str(_RETRY_AFTER_S)}
            raise Problem(503, f"The token can't be checked now: {error}.", headers=headers) from None


def _may_be_anonymous(settings: SecuritySettings, host: str, *, has_hooks: bool) -> bool:
    takes_tokens = settings.tokens is not None or settings.jwt is not None
    anonymous = settings.anonymous
    if anonymous is None:
        anonymous = is_loopback(host) and not takes_tokens
    if anonymous or takes_tokens or has_hooks:
        return anonymous
    raise ConfigurationError(
        f"the gateway would listen at {host or 'every address'} and let nobody in: name tokens or a jwt issuer in "
        "[security] of the configuration file, or let everybody in by --anonymous (security.anonymous = true)"
    )


def _unauthorized(detail: str, *, error: str = "") -> Problem:
    challenge = 'Bearer realm="hivewire"' + (f', error="{error}"' if error else "")
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})
