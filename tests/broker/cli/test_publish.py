"""`hivewire publish` to agents in other processes."""

from pathlib import Path

from broker.cli.commands import CommandLine, eventually


def test_an_event_reaches_the_agents_that_subscribe(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    done = cli.run("publish", "people/ada", '{"name": "Ada"}', "--type", "Greet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    eventually((tmp_path / "seen-Ada").exists, "the event does not come")


def test_a_topic_that_nobody_subscribes_to_is_told_and_no_error(cli: CommandLine) -> None:
    cli.serve()
    done = cli.run("publish", "peple/ada", '"hello"')
    assert done.returncode == 0
    assert done.stderr == "hivewire: the event is stored, but no agent type subscribes to topic type 'peple'\n"
