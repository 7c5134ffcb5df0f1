"""`hivewire send` against agents in other processes."""

import json
import signal
from pathlib import Path

from broker.cli.commands import CommandLine, eventually


def test_the_reply_of_an_unknown_class_is_printed_as_the_json_it_is(cli: CommandLine) -> None:
    cli.serve()
    printed = cli.prints("send", "greeter/ada", '{"name": "Ada"}', "--type", "Greet")
    assert printed == '{"text":"Hello Ada, I am greeter/ada"}\n'


def test_the_type_of_a_plain_value_follows_from_the_json(cli: CommandLine) -> None:
    cli.serve()
    assert cli.prints("send", "greeter/a", '"hello ✓"') == '"HELLO ✓"\n'


def test_a_message_comes_from_a_file_or_from_standard_input(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    (tmp_path / "message.json").write_text('"from a file"\n')
    assert cli.prints("send", "greeter/a", "@message.json") == '"FROM A FILE"\n'
    assert cli.prints("send", "greeter/a", "-", stdin='"from a pipe"\n') == '"FROM A PIPE"\n'


def test_a_stateless_type_answers_under_any_key(cli: CommandLine) -> None:
    cli.serve("helpers")
    assert json.loads(cli.prints("send", "helper/anything at all", '{"a": 1}')) == {"a": 1, "helped": True}


def test_the_error_of_the_handler_is_one_line(cli: CommandLine) -> None:
    cli.serve()
    line = cli.fails("send", "greeter/a", '{"name": ""}', "--type", "Greet", code=1)
    assert line == "hivewire: greeter/a raised ValueError: nobody to greet"


def test_a_handler_that_cancels_its_own_call_is_one_line(cli: CommandLine) -> None:
    cli.serve()
    line = cli.fails("send", "greeter/a", '{"name": "cancel"}', "--type", "Greet", code=1)
    assert line == "hivewire: greeter/a cancelled the call"


def test_a_payload_that_is_not_the_type_is_told_by_the_receiver(cli: CommandLine) -> None:
    cli.serve()
    line = cli.fails("send", "greeter/a", '{"nam": "Ada"}', "--type", "Greet", code=1)
    assert "'Greet'" in line and "name" in line


def test_an_unknown_agent_type_is_one_line(cli: CommandLine) -> None:
    cli.serve()
    line = cli.fails("send", "gretter/ada", "{}", code=1)
    assert line.startswith("hivewire: Recipient not found: gretter/ada") and "hivewire ps" in line


def test_a_namespace_that_nobody_made_is_named_and_stays_unmade(cli: CommandLine) -> None:
    assert "no namespace 'mistyped'" in cli.fails("send", "greeter/ada", "{}", "--namespace", "mistyped", code=1)
    # The first one has made nothing.
    assert "no namespace 'mistyped'" in cli.fails("publish", "people/ada", "{}", "--namespace", "mistyped", code=1)


def test_a_reply_that_does_not_come_in_time_is_one_line(cli: CommandLine) -> None:
    cli.serve()
    line = cli.fails("send", "greeter/a", '{"seconds": 30}', "--type", "Wait", "--timeout", "0.3", code=1)
    assert "took longer than its timeout of 0.3 s" in line


def test_an_interrupted_call_ends_at_once(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    sending = cli.start("send", "greeter/a", '{"seconds": 30}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    sending.signal(signal.SIGINT)
    assert sending.ends() == 130
    assert sending.output == ""
