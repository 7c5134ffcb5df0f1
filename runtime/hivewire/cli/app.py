"""The commands with their options, as the user sees them.

Only what is needed to show the help is imported here; a command's own module is imported when the command runs.
"""

from __future__ import annotations

import socket
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hivewire._version import __version__
from hivewire.cli.errors import FAILURE, INTERRUPTED, USAGE, CommandError, UserCodeError, complain
from hivewire.exceptions import HivewireError

app = typer.Typer(
    name="hivewire",
    help="Run AutoGen-style agents in several processes over NATS, and talk to them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Broker = Annotated[
    str, typer.Option("--broker", "-b", envvar="BROKER_URL", metavar="URL", help="The NATS server: nats://host:4222.")
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", envvar="HIVEWIRE_NAMESPACE", help="Keeps systems apart that share a server."),
]
Credentials = Annotated[
    str, typer.Option("--creds", envvar="NATS_CREDS", metavar="FILE", help="A NATS credentials file to log in with.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LogLevel = Annotated[str, typer.Option(envvar="HIVEWIRE_LOG_LEVEL", help="Of the `hivewire` loggers.")]
LogFormat = Annotated[
    str,
    typer.Option(
        envvar="HIVEWIRE_LOG_FORMAT", help="json, text, or auto: text on a terminal, JSON elsewhere.", metavar="FORMAT"
    ),
]
MessageType = Annotated[
    str,
    typer.Option(
        "--type", "-t", metavar="NAME", help="The message's type. Default: that of the JSON value, such as dict."
    ),
]
Agent = Annotated[str, typer.Argument(metavar="TYPE/KEY", help="The agent.")]
Message = Annotated[str, typer.Argument(help="JSON, or @FILE, or - for standard input.")]


def main() -> None:
    """Run the command that the arguments of this process name, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; what goes wrong is told in one line on standard error."""
    try:
        return app(arguments, prog_name="hivewire", standalone_mode=False) or 0
    except typer.TyperException as error:
        return _refused(error)
    except UserCodeError as error:
        error.show_traceback()
        complain(error)
        return error.exit_code
    except CommandError as error:
        complain(error)
        return error.exit_code
    except HivewireError as error:
        complain(error)
        return FAILURE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED


def _refused(error: typer.TyperException) -> int:
    text = error.format_message()
    if not text:
        # The command was called without arguments, and its help is shown already.
        return USAGE
    command = getattr(getattr(error, "ctx", None), "command_path", "hivewire")
    complain(f"{text.rstrip('.')}. Try '{command} --help'.")
    return error.exit_code


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hivewire {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `hivewire` itself."""


@app.command()
def demo(
    path: Annotated[
        Path | None, typer.Argument(help="A folder of Python sources, or one file. Default: Hivewire's own.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Review at most so many files.")] = 500,
) -> None:
    """See agents at work: four processes review Python sources. Needs nothing but this package."""
    from hivewire.cli.demo.command import demo

    demo(path, limit=limit)


@app.command()
def dev(
    target: Annotated[str, typer.Argument(metavar="FILE_OR_MODULE", help="A file or a module, or either with :SETUP.")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The broker's port. Default: a free one.")] = None,
    namespace: Namespace = "default",
    gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Serve HTTP too, or don't.")] = True,
    gateway_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port for HTTP. Default: 8080, or a free one where that is taken."),
    ] = None,
) -> None:
    """Run agents on a broker of their own, and again whenever their source changes."""
    from hivewire.cli.dev import dev

    dev(target, port=port, namespace=namespace, gateway=gateway, gateway_port=gateway_port)


@app.command(name="run")
def run_(
    target: Annotated[str, typer.Argument(metavar="MODULE:SETUP", help="Where `async def setup(runtime)` is.")],
    broker: Broker = "",
    namespace: Namespace = "default",
    deployment: Annotated[
        str, typer.Option(envvar="HIVEWIRE_DEPLOYMENT", help="The group of interchangeable processes that this is of.")
    ] = "default",
    instance_id: Annotated[
        str, typer.Option(envvar="INSTANCE_ID", help="A label of this process. Default: the host's name.")
    ] = "",
    drain_timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long running handlers may take to finish at the end.")
    ] = 25.0,
    log_level: LogLevel = "info",
    log_format: LogFormat = "auto",
    creds: Credentials = "",
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, envvar="HIVEWIRE_HEALTH_PORT", help="Serve /healthz and /readyz there. 0: a free port."
        ),
    ] = None,
    health_host: Annotated[
        str, typer.Option(envvar="HIVEWIRE_HEALTH_HOST", help="The address for --health-port; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    processes: Annotated[
        int, typer.Option(min=1, envvar="HIVEWIRE_PROCESSES", help="Serve in so many processes, with one health port.")
    ] = 1,
) -> None:
    """Serve agents until SIGTERM or SIGINT, then drain: what a pod runs."""
    from hivewire.cli.run import run
    from hivewire.cli.run_processes import run_processes

    serve = run if processes == 1 else partial(run_processes, processes=processes)
    serve(
        target,
        broker=broker,
        namespace=namespace,
        deployment=deployment,
        instance_id=instance_id,
        drain_timeout=drain_timeout,
        log_level=log_level,
        log_format=log_format,
        credentials=creds,
        health=None if health_port is None else (health_host, health_port),
    )


gateway_app = typer.Typer(invoke_without_command=True)
app.add_typer(gateway_app, name="gateway")


@gateway_app.callback()
def gateway(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(envvar="HIVEWIRE_GATEWAY_CONFIG", metavar="FILE", help="TOML. What is given here wins over it."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(envvar="HIVEWIRE_GATEWAY_HOST", help="The address to listen on. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar="HIVEWIRE_GATEWAY_PORT", help="The port. 0: a free one. Default: 8080."),
    ] = None,
    metrics_host: Annotated[
        str | None,
        typer.Option(
            envvar="HIVEWIRE_GATEWAY_METRICS_HOST", help="The address for metrics and health. Default: 127.0.0.1."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, envvar="HIVEWIRE_GATEWAY_METRICS_PORT", help="Their port. 0: a free one. Default: 9090."
        ),
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="How long open requests may take to finish at the end. Default: 25."
        ),
    ] = None,
    anonymous: Annotated[
        bool | None, typer.Option("--anonymous/--no-anonymous", help="Take requests without a token, or don't.")
    ] = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "auto",
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Serve HTTP for agents: events and direct messages come in, until SIGTERM or SIGINT; then drain."""
    if context.invoked_subcommand is not None:
        return
    from hivewire.cli.gateway import gateway

    typed = {
        "host": host,
        "port": port,
        "metrics_host": metrics_host,
        "metrics_port": metrics_port,
        "drain_timeout_s": drain_timeout,
        "security.anonymous": anonymous,
    }
    gateway(
        config=config,
        typed=typed,
        broker=broker,
        namespace=namespace,
        credentials=creds,
        log_level=log_level,
        log_format=log_format,
    )


@gateway_app.command(name="token")
def gateway_token(
    name: Annotated[str, typer.Argument(help="The principal that it is for.")],
    add_to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add the line to this file, and print the token only.")
    ] = None,
) -> None:
    """Make a token: prints it, and the line with its hash for the file with the tokens."""
    from hivewire.cli.gateway import token

    token(name, add_to=add_to)


operator_app = typer.Typer(invoke_without_command=True)
app.add_typer(operator_app, name="operator")


@operator_app.callback()
def operator(
    context: typer.Context,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HIVEWIRE_WATCH_NAMESPACES",
            metavar="NAME",
            help="A Kubernetes namespace to see to; may be given again, '*' is all. Default: its own.",
        ),
    ] = None,
    own_namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="The Kubernetes namespace that it runs in.")
    ] = "default",
    identity: Annotated[
        str, typer.Option(envvar="POD_NAME", help="What it is called among its replicas. Default: the host's name.")
    ] = "",
    lease: Annotated[str, typer.Option(envvar="HIVEWIRE_LEASE", help="The Lease by which replicas elect one.")] = (
        "hivewire-operator"
    ),
    image: Annotated[
        str, typer.Option(envvar="HIVEWIRE_IMAGE", help="The image of agents whose deployment names none.")
    ] = "",
    monitor_label: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HIVEWIRE_MONITOR_LABELS",
            metavar="NAME=VALUE",
            help="A label by which Prometheus selects the PodMonitors of agents; may be given again.",
        ),
    ] = None,
    first_system: Annotated[
        Path | None,
        typer.Option(
            envvar="HIVEWIRE_FIRST_SYSTEM", metavar="FILE", help="An AgentSystem to apply, now and if it changes."
        ),
    ] = None,
    health_host: Annotated[
        str, typer.Option(envvar="HIVEWIRE_HEALTH_HOST", help="The address for health and metrics.")
    ] = "127.0.0.1",
    health_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="HIVEWIRE_HEALTH_PORT", help="Their port. 0: a free one.")
    ] = 9090,
    log_level: LogLevel = "info",
    log_format: LogFormat = "auto",
) -> None:
    """Keep what agents need in Kubernetes and on NATS, until SIGTERM or SIGINT."""
    if context.invoked_subcommand is not None:
        return
    from hivewire.cli.operator import operator

    operator(
        namespaces=[each for given in namespace or () for each in given.split(",") if each],
        own_namespace=own_namespace,
        identity=identity or socket.gethostname(),
        lease=lease,
        image=image,
        monitor_labels=[each for given in monitor_label or () for each in given.split(",") if each],
        first_system=first_system,
        health_host=health_host,
        health_port=health_port,
        log_level=log_level,
        log_format=log_format,
    )


@operator_app.command(name="bootstrap")
def operator_bootstrap(
    namespaces: Annotated[
        str,
        typer.Option(
            envvar="HIVEWIRE_WATCH_NAMESPACES", metavar="NAMES", help="Who may log in, separated by commas. '*': all."
        ),
    ],
    broker: Annotated[
        str, typer.Option("--broker", "-b", envvar="BROKER_URL", metavar="URL", help="Where its servers will be.")
    ] = "",
    login: Annotated[str, typer.Option(metavar="NAME", help="What the login is called.")] = "default",
    own_namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="The Kubernetes namespace that the operator runs in.")
    ] = "default",
) -> None:
    """Make the keys of a NATS that belongs to Hivewire alone, where there are none yet."""
    from hivewire.cli.operator import bootstrap

    bootstrap(namespaces=namespaces, login=login, own_namespace=own_namespace, broker=broker)


@app.command()
def send(
    recipient: Annotated[str, typer.Argument(metavar="TYPE/KEY", help="The agent.")],
    message: Message,
    type_name: MessageType = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the reply.")] = 300.0,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Send a direct message to an agent and print its reply as JSON."""
    from hivewire.cli.send import send

    send(
        recipient, message, type_name=type_name, timeout=timeout, broker=broker, namespace=namespace, credentials=creds
    )


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(metavar="TOPIC/SOURCE", help="The topic's type and its source.")],
    message: Message,
    type_name: MessageType = "",
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Publish an event; ends when the broker has stored it."""
    from hivewire.cli.publish import publish

    publish(topic, message, type_name=type_name, broker=broker, namespace=namespace, credentials=creds)


@app.command()
def ps(broker: Broker = "", namespace: Namespace = "default", creds: Credentials = "", json: Json = False) -> None:
    """Show agent types, the processes that serve them, and how far each shard lags."""
    from hivewire.cli.ps import ps

    ps(broker=broker, namespace=namespace, credentials=creds, as_json=json)


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once, after one interval.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often it is worked out anew.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each time.")] = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show what agent types and processes do, until q or Ctrl-C: rates, lag, times, errors."""
    from hivewire.cli.top import top

    top(once=once, as_json=json, interval=interval, broker=broker, namespace=namespace, credentials=creds)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="A topic type, or a prefix of some with * at its end.")],
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest stored event.")] = False,
    json: Json = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show events as they pass, until Ctrl-C."""
    from hivewire.cli.tail import tail

    tail(topic, from_start=from_start, as_json=json, broker=broker, namespace=namespace, credentials=creds)


@app.command()
def trace(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The message's id, or a trace's.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Look only at what is newer: 30m, 1h, 2d, or an ISO time.")
    ] = None,
    json: Json = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show the path of a message: when it was stored, what became of it at each agent, and what came of it."""
    from hivewire.cli.trace import trace

    trace(message_id, since=since, whole_json=json, broker=broker, namespace=namespace, credentials=creds)


state = typer.Typer(no_args_is_help=True, help="Look at the stored states of agents, and remove them.")
app.add_typer(state, name="state")


@state.command(name="get")
def state_get(
    agent: Agent,
    record: Annotated[
        bool, typer.Option("--record", help="Print the whole record as it is stored, not only the state.")
    ] = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Print the state of an agent as JSON."""
    from hivewire.cli.state import get

    get(agent, whole_record=record, broker=broker, namespace=namespace, credentials=creds)


@state.command(name="ls")
def state_ls(
    agent_type: Annotated[str | None, typer.Argument(metavar="TYPE", help="An agent type. Default: all.")] = None,
    json: Json = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show which agents have a stored state."""
    from hivewire.cli.state import ls

    ls(agent_type, as_json=json, broker=broker, namespace=namespace, credentials=creds)


@state.command(name="rm")
def state_rm(agent: Agent, broker: Broker = "", namespace: Namespace = "default", creds: Credentials = "") -> None:
    """Remove the state of an agent, which then begins anew."""
    from hivewire.cli.state import rm

    rm(agent, broker=broker, namespace=namespace, credentials=creds)


dead = typer.Typer(no_args_is_help=True, help="Look at the messages that agents gave up, and send them again.")
app.add_typer(dead, name="dead")

Sequence = Annotated[int, typer.Argument(min=1, metavar="SEQUENCE", help="The message, as `ls` shows it.")]
OneAgent = Annotated[str | None, typer.Argument(metavar="TYPE/KEY", help="The agent of one dead letter.")]
OneSequence = Annotated[int | None, typer.Argument(min=1, metavar="SEQUENCE", help="Its message, as `ls` shows it.")]
OfType = Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="Only those of this agent type.")]
OfKey = Annotated[str | None, typer.Option("--key", "-k", metavar="KEY", help="Only those of agents with this key.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only newer ones: 30m, 1h, 2d, or an ISO time.")]
WithError = Annotated[
    str | None, typer.Option("--error", metavar="NAME", help="Only those with this class of error, such as ValueError.")
]
Everything = Annotated[bool, typer.Option("--all", help="All that there are.")]


@dead.command(name="ls")
def dead_ls(
    agent_type: OfType = None,
    key: OfKey = None,
    since: Since = None,
    error: WithError = None,
    json: Json = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show which messages were given up, and why."""
    from hivewire.cli.dead import ls
    from hivewire.cli.dead_selection import filtered

    wanted = filtered(agent_type=agent_type, key=key, since=since, error=error)
    ls(wanted, json_lines=json, broker=broker, namespace=namespace, credentials=creds)


@dead.command(name="show")
def dead_show(
    agent: Agent,
    sequence: Sequence,
    json: Json = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Show one with its traceback, headers and payload."""
    from hivewire.cli.dead import show

    show(agent, sequence, whole_json=json, broker=broker, namespace=namespace, credentials=creds)


@dead.command(name="replay")
def dead_replay(
    agent: OneAgent = None,
    sequence: OneSequence = None,
    agent_type: OfType = None,
    key: OfKey = None,
    since: Since = None,
    error: WithError = None,
    everything: Everything = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Send messages to their agents again: one, those that filters select, or all."""
    from hivewire.cli.dead import replay
    from hivewire.cli.dead_selection import filtered, selected

    wanted = filtered(agent_type=agent_type, key=key, since=since, error=error)
    replay(
        selected(agent, sequence, wanted, everything=everything), broker=broker, namespace=namespace, credentials=creds
    )


@dead.command(name="rm")
def dead_rm(
    agent: OneAgent = None,
    sequence: OneSequence = None,
    agent_type: OfType = None,
    key: OfKey = None,
    since: Since = None,
    error: WithError = None,
    everything: Everything = False,
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Remove dead letters: one, those that filters select, or all."""
    from hivewire.cli.dead import rm
    from hivewire.cli.dead_selection import filtered, selected

    wanted = filtered(agent_type=agent_type, key=key, since=since, error=error)
    rm(selected(agent, sequence, wanted, everything=everything), broker=broker, namespace=namespace, credentials=creds)


schedules = typer.Typer(no_args_is_help=True, help="Look at the messages that wait for their time, and cancel them.")
app.add_typer(schedules, name="schedules")


@schedules.command(name="ls")
def schedules_ls(
    json: Json = False, broker: Broker = "", namespace: Namespace = "default", creds: Credentials = ""
) -> None:
    """Show what is scheduled, by its next time."""
    from hivewire.cli.schedules import ls

    ls(json_lines=json, broker=broker, namespace=namespace, credentials=creds)


@schedules.command(name="rm")
def schedules_rm(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The schedules, as `ls` shows them.")],
    broker: Broker = "",
    namespace: Namespace = "default",
    creds: Credentials = "",
) -> None:
    """Cancel schedules: they fire no more."""
    from hivewire.cli.schedules import rm

    rm(ids, broker=broker, namespace=namespace, credentials=creds)
