"""The configuration file: what is wrong in it is named, and what may stand there instead."""

from pathlib import Path

import pytest

from hivewire_gateway import ConfigurationError, Settings, load_settings
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.authenticator import Authenticator


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def test_without_a_file_all_is_as_usual() -> None:
    assert load_settings(None) == Settings()


def test_what_was_typed_wins(file: Path) -> None:
    file.write_text('port = 1\nhost = "::1"\n[security]\nanonymous = false\n')
    settings = load_settings(file, {"port": 2, "security.anonymous": True})
    assert (settings.host, settings.port, settings.security.anonymous) == ("::1", 2, True)


def test_paths_begin_at_the_folder_of_the_file(file: Path) -> None:
    file.write_text(
        '[security]\ntokens = {file = "tokens"}\n'
        '[security.jwt]\nissuer = "i"\naudience = "a"\njwks_file = "/etc/keys.json"\n'
    )
    security = load_settings(file).security
    assert security.tokens is not None and security.tokens.file == file.parent / "tokens"
    assert security.jwt is not None and security.jwt.jwks_file == Path("/etc/keys.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = ", "is not TOML"),
        ("prot = 1", "there is no key prot: did you mean port? allowed are host, port"),
        ("port = 70000", "port: Input should be less than or equal to 65535"),
        ('port = "web"', "port: "),
        ("security = 1", "security: "),
        (
            "[security]\nanonimous = true",
            "no key security.anonimous: did you mean anonymous? allowed are anonymous, tok",
        ),
        ("[security.principals.shop]\nmay = []", "no key security.principals.shop.may: allowed are publish, read"),
        ('[security.principals.shop]\npublish = ["a"]', "security.principals.shop.publish.0: 'a' names no pair"),
        ('[security.defaults]\nserve = ["*a"]', "security.defaults.serve.0: '*a' has a * before its end"),
        ("[security.defaults]\nsend = [1]", "security.defaults.send.0: must be a string"),
        ("[security.defaults.rates]\nevents = {per_s = 0}", "security.defaults.rates.events.per_s: "),
        ("[security.defaults.rates]\nevents = {per_m = 1}", "no key security.defaults.rates.events.per_m: "),
        (
            "[security.defaults.rates]\nposts = {per_s = 1}",
            "security.defaults.rates.posts: Input should be 'events', 'calls'",
        ),
        ("[security]\ntokens = {}", "security.tokens: needs either file or env"),
        ('[security]\ntokens = {file = "a", env = "B"}', "security.tokens: needs either file or env"),
        ('[security]\ncors_origins = ["app.example"]', "security.cors_origins: 'app.example' is no origin"),
        ('[security]\nhosts = ["a:80"]', "security.hosts: 'a:80' is no host name"),
        ('[security.jwt]\nissuer = "i"', "security.jwt.audience: Field required"),
        ('[security.jwt]\nissuer = "i"\naudience = "a"', "security.jwt: needs either jwks_url or jwks_file"),
        (
            '[security.jwt]\nissuer = "i"\naudience = "a"\njwks_file = "k"\nalgorithms = ["HS256"]',
            "security.jwt.algorithms: may hold RS256",
        ),
        (
            '[security.jwt]\nissuer = "i"\naudience = "a"\njwks_url = "http://idp.example/k"',
            "security.jwt.jwks_url: must begin with https://",
        ),
        ("[limits]\nmax_in_flight = 0", "limits.max_in_flight: "),
        ("[limits]\nbody_timeout_s = inf", "limits.body_timeout_s: "),
    ],
)
def test_an_error_names_the_key_and_what_is_allowed(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway.toml: No such file"):
        load_settings(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_settings(file)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.1", "gateway.example"])
def test_nobody_is_let_in_from_elsewhere_unless_somebody_says_who(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--anonymous"):
        Authenticator(Settings(host=host).security, host=host)
    Authenticator(load_settings(None, {"security.anonymous": True}).security, host=host)


def test_a_gateway_that_lets_nobody_in_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="let nobody in"):
        Authenticator(load_settings(None, {"security.anonymous": False}).security, host="127.0.0.1")


def test_a_gateway_for_webhooks_alone_needs_no_tokens() -> None:
    with pytest.raises(Problem, match="A token is needed"):
        Authenticator(Settings().security, host="0.0.0.0", has_hooks=True).anonymous()
    Authenticator(Settings().security, host="127.0.0.1", has_hooks=True).anonymous()


def test_secrets_that_can_not_be_read_are_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tokens, says in [
        ({"file": str(file)}, r"security.tokens: can't use the file .*gateway.toml"),
        ({"env": "NO_SUCH_TOKENS"}, "the environment variable NO_SUCH_TOKENS: it is not set"),
        ({"env": "BAD_TOKENS"}, "line 1 is not a name"),
    ]:
        monkeypatch.setenv("BAD_TOKENS", "shop sesame")
        with pytest.raises(ConfigurationError, match=says) as caught:
            Authenticator(load_settings(None, {"security.tokens": tokens}).security, host="127.0.0.1")
        assert "sesame" not in str(caught.value)
