"""`hivewire tail` shows events that pass."""

import json
import signal
import subprocess
import sys
from subprocess import PIPE

from broker.cli.commands import CommandLine


def test_events_are_shown_as_they_pass_until_ctrl_c(cli: CommandLine) -> None:
    cli.serve()
    cli.publish("people/early", '{"name": "early"}', "--type", "Greet")
    tailing = cli.start("tail", "people")
    # Until it reads, what is published may come before its beginning.
    while "people/ada" not in tailing.output:
        cli.publish("people/ada", '{"name": "Ada"}', "--type", "Greet")
        cli.publish("others/ada", '"other"')
    line = tailing.output.splitlines()[0]
    assert line.split(maxsplit=1)[1] == 'people/ada Greet {"name": "Ada"}'
    assert "early" not in tailing.output and "other" not in tailing.output
    tailing.signal(signal.SIGINT)
    assert tailing.ends() == 0
    assert "Traceback" not in tailing.output


def test_a_prefix_from_the_start_takes_what_begins_so(cli: CommandLine) -> None:
    cli.serve()
    for topic in ("people/a", "person/b", "pea.soup/c", "other/d"):
        cli.publish(topic, f'"{topic}"')
    tailing = cli.start("tail", "pe*", "--from-start", "--json")
    tailing.shows("\n", times=3)
    events = [json.loads(line) for line in tailing.output.splitlines()]
    topics = [(event["topic"], event["source"]) for event in events]
    assert topics == [("people", "a"), ("person", "b"), ("pea.soup", "c")]
    first = events[0]
    assert (first["type"], first["payload"], first["sender"], first["content_type"]) == (
        "str",
        "people/a",
        None,
        "application/json",
    )
    assert first["sequence"] < events[1]["sequence"] and first["time"] <= events[1]["time"]


def test_the_end_of_a_pipe_that_it_writes_into_is_its_own_end(cli: CommandLine) -> None:
    cli.serve()
    cli.publish("people/0", '"hello"')
    piped = f"{sys.executable} -m hivewire tail people --from-start | head -n 1"
    with subprocess.Popen(["sh", "-c", piped], env=cli.environment, stdout=PIPE, stderr=PIPE, text=True) as pipeline:
        # It learns of the end when it writes again.
        while pipeline.poll() is None:
            cli.publish("people/1", '"hello"')
        assert pipeline.stdout is not None and pipeline.stderr is not None
        assert "people/0" in pipeline.stdout.read()
        assert pipeline.stderr.read() == ""


def test_a_topic_that_can_not_be_one_is_one_line(cli: CommandLine) -> None:
    assert "at its end only" in cli.fails("tail", "pe*ple", code=2)
