"""What a serving process tells a supervisor, as a pod's probes ask it."""

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from broker.cli.commands import CommandLine, Started, eventually, get, health_of
from broker.jwt_accounts import JwtAccounts, replace
from hivewire.nats.embedded import EmbeddedServer


def serve(cli: CommandLine, *arguments: str) -> tuple[Started, str]:
    """Serve agents, and return the process with the address of its health."""
    served = cli.serve("setup", "--health-port", "0", *arguments)
    return served, health_of(served)


def test_it_is_ready_until_a_signal_and_alive_until_its_end(cli: CommandLine, tmp_path: Path) -> None:
    served, health = serve(cli)
    assert get(f"{health}/readyz") == get(f"{health}/healthz") == (200, "ok")
    sending = cli.start("send", "greeter/a", '{"seconds": 3}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    served.signal(signal.SIGTERM)
    served.shows("drains")
    eventually(lambda: get(f"{health}/readyz") == (503, "the runtime drains"), "it stays ready while it drains")
    assert get(f"{health}/healthz") == (200, "ok")
    assert (sending.ends(), sending.output) == (0, '"done"\n')
    assert served.ends() == 0
    with pytest.raises(urllib.error.URLError):
        get(f"{health}/healthz")


def test_a_second_signal_ends_it_at_once_with_a_health_port_too(cli: CommandLine, tmp_path: Path) -> None:
    served, _ = serve(cli)
    cli.start("send", "greeter/a", '{"seconds": 60}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    served.signal(signal.SIGTERM)
    served.shows("drains")
    served.signal(signal.SIGTERM)
    assert served.ends() == -signal.SIGTERM


async def test_it_is_not_ready_without_a_broker_or_a_login_and_goes_on_with_a_new_file(
    namespace: str, tmp_path: Path
) -> None:
    accounts = JwtAccounts()
    file = tmp_path / "nats.creds"
    replace(file, accounts.credentials())
    async with EmbeddedServer(config_lines=accounts.config_lines) as server:
        cli = CommandLine(server.url, namespace, tmp_path)
        try:
            _, health = serve(cli, "--creds", str(file))
            assert cli.prints("send", "greeter/a", '"hello"', "--creds", str(file)) == '"HELLO"\n'
            assert "greeter" in cli.prints("ps", "--creds", str(file))
            cli.prints("publish", "people/a", '{"name": "a"}', "--type", "Greet", "--creds", str(file))
            assert "Authorization Violation" in cli.fails("ps", code=1)
            server.kill()
            eventually(lambda: get(f"{health}/readyz")[0] == 503, "it is ready without a broker")
            assert "there is no connection to NATS" in get(f"{health}/readyz")[1]
            assert get(f"{health}/healthz") == (200, "ok")
            await server.restart()
            eventually(lambda: get(f"{health}/readyz")[0] == 200, "it does not come back")
            replace(file, accounts.credentials(lives_s=2))
            eventually(lambda: "expired at" in get(f"{health}/readyz")[1], "it is ready without a login")
            replace(file, accounts.credentials())
            eventually(lambda: get(f"{health}/readyz")[0] == 200, "it does not come back")
            assert cli.prints("send", "greeter/a", '"hello"', "--creds", str(file)) == '"HELLO"\n'
        finally:
            cli.kill_all()


def test_a_credentials_file_that_is_not_there_is_one_line(cli: CommandLine) -> None:
    for arguments in (["ps"], ["send", "a/b", "{}"], ["publish", "a/b", "{}"], ["tail", "a"]):
        text = cli.fails(*arguments, "--creds", "nowhere.creds", code=1)
        assert "The NATS credentials file nowhere.creds can't be read (No such file or directory)" in text


def test_a_health_port_that_is_taken_is_one_line(cli: CommandLine) -> None:
    _, health = serve(cli)
    port = health.rpartition(":")[2]
    text = cli.fails("run", "agents:setup", "--health-port", port, code=1)
    assert f"can't be served at 127.0.0.1 port {port} (Address already in use)" in text
