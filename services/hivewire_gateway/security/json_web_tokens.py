"""Tokens that somebody else issues and signs (RFC 7519, with the rules of RFC 8725)."""

from __future__ import annotations

from typing import Any

import jwt

from hivewire_gateway.security.key_sets import FetchedKeys, FileKeys, KeySource, PublicKey
from hivewire_gateway.security.principal_names import check_name
from hivewire_gateway.security.settings import JwtSettings


class InvalidTokenError(Exception):
    """A token is not accepted. The text says why, for the client, and has nothing of the token in it."""


class JsonWebTokens:
    """Tells whose token one is.

    Accepted is what a key of the issuer has signed by an algorithm of the list, for this audience, from its `nbf` to
    its `exp`, which it must have.
    """

    def __init__(self, settings: JwtSettings, keys: KeySource) -> None:
        self._settings = settings
        self._keys = keys

    @classmethod
    def from_settings(cls, settings: JwtSettings) -> JsonWebTokens:
        """Return one with the source of keys that is set.

        Raises:
            OSError: the file with the keys can't be read.
            ValueError: it is no JSON Web Key Set.
        """
        if settings.jwks_file is not None:
            return cls(settings, FileKeys(settings.jwks_file))
        assert settings.jwks_url is not None
        fetched = FetchedKeys(settings.jwks_url, refresh_s=settings.refresh_s, timeout_s=settings.fetch_timeout_s)
        return cls(settings, fetched)

    async def principal_name(self, token: str) -> str:
        """Return whose token it is.

        Raises:
            InvalidTokenError: it is not accepted.
            KeysUnavailableError: the issuer's keys are not there.
        """
        header = _header(token)
        algorithm = header.get("alg")
        if algorithm not in self._settings.algorithms:
            raise InvalidTokenError("its algorithm is not accepted")
        if "crit" in header:
            raise InvalidTokenError("it has critical header parameters, and none is known")
        key_id = header.get("kid")
        key = await self._keys.find(key_id)
        if key is None:
            raise InvalidTokenError("it is signed with a key that the issuer does not publish")
        return self._name(_claims(token, key, algorithm, self._settings))

    def _name(self, claims: dict[str, Any]) -> str:
        claim = self._settings.principal_claim
        try:
            return check_name(claims.get(claim), f"its claim {claim}")
        except ValueError as error:
            raise InvalidTokenError(str(error)) from None


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidTokenError("it can't be read") from None


def _claims(token: str, key: PublicKey, algorithm: str, settings: JwtSettings) -> dict[str, Any]:
    if key.algorithm not in (None, algorithm):
        raise InvalidTokenError("its key is for another algorithm")
    try:
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=settings.issuer,
            audience=settings.audience,
            leeway=settings.leeway_s,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )
    except jwt.ExpiredSignatureError:
        raise InvalidTokenError("it has expired") from None
    except jwt.ImmatureSignatureError:
        raise InvalidTokenError("it is not valid yet") from None
    except jwt.InvalidAudienceError:
        raise InvalidTokenError("it is for another audience") from None
    except jwt.InvalidIssuerError:
        raise InvalidTokenError("it is of another issuer") from None
    except jwt.MissingRequiredClaimError as error:
        raise InvalidTokenError(f"it has no {error.claim}") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidTokenError("its signature or its claims are not right") from None
