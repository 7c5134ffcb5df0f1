"""What can be set about who may do what: the table `[security]` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator, model_validator

from hivewire_gateway.security.origins import check_host_name, check_origin, is_loopback
from hivewire_gateway.security.patterns import PairPattern, Pattern
from hivewire_gateway.security.principals import Permissions, Rate

SIGNATURE_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


Pair = Annotated[PairPattern, PlainValidator(lambda value: PairPattern.from_str(_text(value)))]
Name = Annotated[Pattern, PlainValidator(lambda value: Pattern(_text(value)))]
RateName = Literal["events", "calls", "streams", "workers", "other", "default"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretSource(_Table):
    """Where a secret is: in a file, which may change at any time, or in an environment variable.

    Attributes:
        file: A path; a relative one begins at the folder of the configuration file.
        env: The name of an environment variable.
    """

    file: Path | None = None
    env: str | None = None

    @field_validator("file")
    @classmethod
    def _beside_the_configuration(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        folder = (info.context or {}).get("folder")
        return folder / file if file is not None and folder is not None else file

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("needs either file or env")
        return self

    def __str__(self) -> str:
        return f"the file {self.file}" if self.file is not None else f"the environment variable {self.env}"


class JwtSettings(_Table):
    """Tokens that somebody else issues and signs.

    Attributes:
        issuer: What `iss` must be.
        audience: What `aud` must be or hold.
        jwks_url: Where the issuer's public keys are, as a JSON Web Key Set (RFC 7517). Or:
        jwks_file: A file with them.
        algorithms: The signatures that are accepted.
        principal_claim: The claim that names the principal.
        leeway_s: How far clocks may differ.
        refresh_s: How long fetched keys are used before they are fetched again.
        fetch_timeout_s: How long a fetch may take.
    """

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks_url: str | None = None
    jwks_file: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    principal_claim: str = "sub"
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    refresh_s: Positive = 300.0
    fetch_timeout_s: Positive = 5.0

    @field_validator("jwks_file")
    @classmethod
    def _beside_the_configuration(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        folder = (info.context or {}).get("folder")
        return folder / file if file is not None and folder is not None else file

    @field_validator("jwks_url")
    @classmethod
    def _over_tls(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if not parts.hostname or not (
                parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
            ):
                raise ValueError("must begin with https://, or with http:// on this machine")
        return url

    @field_validator("algorithms")
    @classmethod
    def _only_signatures(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or not set(algorithms) <= set(SIGNATURE_ALGORITHMS):
            raise ValueError(f"may hold {', '.join(SIGNATURE_ALGORITHMS)}: a public key checks these")
        return algorithms

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("needs either jwks_url or jwks_file")
        return self


class RateSettings(_Table):
    """A token bucket: `per_s` requests a second in the long run, `burst` at once."""

    per_s: Positive
    burst: int = Field(default=1, ge=1)


class PrincipalSettings(_Table):
    """What a principal may do; what nothing here matches, it may not.

    Attributes:
        publish: Topics as `type/source`, each side a name or a prefix with `*` at its end; `*` is everything.
        read: Likewise, for the events that it may read.
        send: Agents, as `type/key`.
        serve: Agent types that it may host.
        rates: Limits by class of routes; `default` is for the classes without one.
    """

    publish: tuple[Pair, ...] = ()
    read: tuple[Pair, ...] = ()
    send: tuple[Pair, ...] = ()
    serve: tuple[Name, ...] = ()
    rates: dict[RateName, RateSettings] = {}

    @property
    def permissions(self) -> Permissions:
        """The same for a `Principal`."""
        return Permissions(publish=self.publish, read=self.read, send=self.send, serve=self.serve)

    @property
    def limits(self) -> dict[str, Rate]:
        """The rates for a `Principal`."""
        return {name: Rate(per_s=rate.per_s, burst=rate.burst) for name, rate in self.rates.items()}


class SecuritySettings(_Table):
    """The table `[security]`.

    Attributes:
        anonymous: Whether requests without a token are taken, as the principal `anonymous`. Unless it is set, they are
            when the gateway listens on loopback and knows no tokens.
        tokens: Where the hashes of static tokens are.
        jwt: The issuer of JSON Web Tokens.
        query_tokens: Whether tokens are taken from `?access_token=` too.
        hosts: Names in the `Host` header that anonymous requests may have, beside the loopback ones.
        cors_origins: Web pages of these origins may use the gateway; `*` is every one.
        defaults: For principals without an entry in `principals`.
        principals: By name. `anonymous` may do everything unless it is here.
    """

    anonymous: bool | None = None
    tokens: SecretSource | None = None
    jwt: JwtSettings | None = None
    query_tokens: bool = False
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    defaults: PrincipalSettings = PrincipalSettings()
    principals: dict[str, PrincipalSettings] = {}

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_host_name(host) for host in hosts)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin if origin == "*" else check_origin(origin) for origin in origins)


class LimitSettings(_Table):
    """The table `[limits]`: how much of everything at once.

    Attributes:
        max_connections: More are answered with 503 and closed.
        max_in_flight: Requests that are being worked on; more are answered with 429. Streams don't count.
        max_streams: Open streams of events and answers, likewise.
        max_workers: Open WebSockets of workers, likewise.
        max_header_bytes: The request line and the headers together.
        max_headers: Header lines of a request.
        header_timeout_s: How long the headers of a request may take to arrive.
        body_timeout_s: How long a body may take.
        body_grace_s: How long before a body has to keep up with `min_body_bytes_per_s`.
        min_body_bytes_per_s: Slower bodies are cut off.
        write_timeout_s: A client that takes nothing of a response for so long is cut off.
        idle_timeout_s: How long a connection without a request stays open.
        accept_gzip: Whether bodies may be compressed; their size counts as it is when unpacked.
    """

    max_connections: int = Field(default=8_000, ge=1)
    max_in_flight: int = Field(default=512, ge=1)
    max_streams: int = Field(default=5_000, ge=1)
    max_workers: int = Field(default=1_000, ge=1)
    max_header_bytes: int = Field(default=16_384, ge=1_024)
    max_headers: int = Field(default=100, ge=10)
    header_timeout_s: Positive = 10.0
    body_timeout_s: Positive = 60.0
    body_grace_s: Positive = 10.0
    min_body_bytes_per_s: Positive = 1_000.0
    write_timeout_s: Positive = 30.0
    idle_timeout_s: int = Field(default=75, ge=1)
    accept_gzip: bool = False
