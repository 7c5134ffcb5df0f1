"""Commands where no broker answers."""

from broker.cli.commands import AGENTS, CommandLine

COMMANDS = [
    ["send", "greeter/a", "{}"],
    ["publish", "people/a", "{}"],
    ["ps"],
    ["tail", "people"],
    ["state", "get", "greeter/a"],
    ["dead", "replay", "--all"],
    ["run", "agents:setup"],
    ["gateway", "--port", "0", "--metrics-port", "0"],
]


def test_every_command_says_so_in_one_line_and_ends(cli: CommandLine) -> None:
    (cli.directory / "agents.py").write_text(AGENTS)
    # All at once, because each of them tries for some seconds.
    started = [cli.start(*command, "--broker", "nats://user:secret@127.0.0.1:1") for command in COMMANDS]
    for each in started:
        assert each.ends() == 1, each.output
        assert each.output.count("\n") == 1, each.output
        assert each.output.startswith("hivewire: Can't connect to NATS at nats://127.0.0.1:1"), each.output
