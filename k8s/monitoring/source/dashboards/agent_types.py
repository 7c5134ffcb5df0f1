"""How one agent type does: what waits, how long its handlers take, what fails, what its state costs."""

from __future__ import annotations

from k8s.monitoring.source.boards import AGENT_TYPE, NAMESPACE, Board, Row
from k8s.monitoring.source.panels import Query, heat_map, lines
from k8s.monitoring.source.queries import FAILED, HANDLED, OF_TYPE, quantile, rate, share_of, total, watched

_BY = ("system", "agent_type")
_OF = f"{{{OF_TYPE}}}"
_PROCESSED = "hivewire_messages_processed_total"
_DURATION = "hivewire_message_process_duration_seconds"
_RPC = "hivewire_rpc_duration_seconds"

_WAITING = Row(
    title="Waiting",
    panels=(
        lines(
            "Lag",
            "Stored events that are not finished. A slope that goes on: more replicas, or fewer events.",
            "short",
            Query(expr=watched(f"hivewire_shard_lag_messages{_OF}", *_BY), legend="{{agent_type}}"),
        ),
        lines(
            "Oldest event",
            "Rises by a second a second while one key is stuck, even if all others are quick.",
            "s",
            Query(expr=watched(f"hivewire_shard_oldest_event_seconds{_OF}", *_BY), legend="{{agent_type}}"),
            alarm_at=300,
        ),
        lines(
            "From publish to start",
            "How long an event waits for its first turn. Rises before the lag looks bad. Two clocks take part.",
            "s",
            Query(
                expr=quantile(0.5, "hivewire_message_queue_latency_seconds", OF_TYPE, "agent_type"),
                legend="p50 {{agent_type}}",
            ),
            Query(
                expr=quantile(0.99, "hivewire_message_queue_latency_seconds", OF_TYPE, "agent_type"),
                legend="p99 {{agent_type}}",
            ),
        ),
        lines(
            "In flight",
            "Messages in handlers or in memory before them. Flat at a limit while the lag grows: handlers are the"
            " bottleneck.",
            "short",
            Query(expr=total(f"hivewire_inflight_messages{_OF}", *_BY), legend="{{agent_type}}"),
        ),
    ),
)

_HANDLING = Row(
    title="Handling",
    panels=(
        lines(
            "Messages by result",
            "Finished messages a second. `dead_letter`: given up. `duplicate`: came again and was known.",
            "ops",
            Query(expr=rate(f"{_PROCESSED}{_OF}", "agent_type", "result"), legend="{{agent_type}} {{result}}"),
            is_stacked=True,
        ),
        lines(
            "Errors and retries",
            "Shares: messages that ended in an error or as dead letter, and attempts that are to be repeated. Retries"
            " come first; errors follow when they don't help.",
            "percentunit",
            Query(
                expr=share_of(
                    rate(f"{_PROCESSED}{{{OF_TYPE}, {FAILED}}}", "agent_type"),
                    rate(f"{_PROCESSED}{{{OF_TYPE}, {HANDLED}}}", "agent_type"),
                ),
                legend="errors {{agent_type}}",
            ),
            Query(
                expr=share_of(
                    rate(f"hivewire_message_retries_total{_OF}", "agent_type"),
                    rate(f"{_DURATION}_count{_OF}", "agent_type"),
                ),
                legend="retries {{agent_type}}",
            ),
            warn_at=0.1,
        ),
        heat_map(
            "Handling time",
            "Attempts by how long they took. Two bands: two kinds of work, or a time-out. A band that moves up: a slow"
            " service behind the agents.",
            "s",
            f"sum by (le) (increase({_DURATION}_bucket{_OF}[$__rate_interval]))",
        ),
        lines(
            "Handling time, p50 and p99",
            "A p99 far above the p50: few messages are slow, look at them. Both high: all are.",
            "s",
            Query(expr=quantile(0.5, _DURATION, OF_TYPE, "agent_type"), legend="p50 {{agent_type}}"),
            Query(expr=quantile(0.99, _DURATION, OF_TYPE, "agent_type"), legend="p99 {{agent_type}}"),
        ),
    ),
)

_STATE = Row(
    title="Agents and their states",
    panels=(
        lines(
            "Agents in memory",
            "Falls when agents are passivated. Flat at `max_agents`: agents are taken out to make room for others.",
            "short",
            Query(expr=total(f"hivewire_agents_active{_OF}", *_BY), legend="{{agent_type}}"),
        ),
        lines(
            "Activations and passivations",
            "Agents built, and taken out of memory, a second. Both high at once: memory is too small for the keys in"
            " use. `error`: the factory or `load_state` fails.",
            "ops",
            Query(
                expr=rate(f"hivewire_agent_activations_total{_OF}", "agent_type", "result"),
                legend="activations {{agent_type}} {{result}}",
            ),
            Query(
                expr=rate(f"hivewire_agent_passivations_total{_OF}", "agent_type"),
                legend="passivations {{agent_type}}",
            ),
        ),
        lines(
            "State, load and save time, p99",
            "What the broker takes to read and to write a state. Both rise with a slow disk of NATS, and with large"
            " states.",
            "s",
            Query(
                expr=quantile(0.99, "hivewire_state_load_duration_seconds", OF_TYPE, "agent_type"),
                legend="load {{agent_type}}",
            ),
            Query(
                expr=quantile(0.99, "hivewire_state_save_duration_seconds", OF_TYPE, "agent_type"),
                legend="save {{agent_type}}",
            ),
        ),
        lines(
            "State conflicts",
            "Writes that were refused, a second. Some while shards move are right; a steady line is two processes that"
            " think they own the same agents.",
            "ops",
            Query(expr=rate(f"hivewire_state_conflicts_total{_OF}", "agent_type"), legend="{{agent_type}}"),
        ),
    ),
)

_CALLS = Row(
    title="Direct messages, as their senders see them",
    panels=(
        lines(
            "Calls by result",
            "A second. `deadline`, `worker_lost`: the callee is slow, or dies. `overloaded`: all its turns are taken."
            " `not_found`: no process serves the type.",
            "ops",
            Query(expr=rate(f"{_RPC}_count{_OF}", "agent_type", "result"), legend="{{agent_type}} {{result}}"),
        ),
        lines(
            "Call time, p50 and p99",
            "From sending to the outcome. Far above the handling time: the message waits for a turn or for its key.",
            "s",
            Query(expr=quantile(0.5, _RPC, OF_TYPE, "agent_type"), legend="p50 {{agent_type}}"),
            Query(expr=quantile(0.99, _RPC, OF_TYPE, "agent_type"), legend="p99 {{agent_type}}"),
        ),
        lines(
            "Streamed chunks",
            "Chunks of streamed answers a second. Zero while streams are open: readers don't read.",
            "ops",
            Query(expr=rate(f"hivewire_stream_chunks_total{_OF}", "agent_type"), legend="{{agent_type}}"),
            width=24,
        ),
    ),
)

AGENT_TYPES = Board(
    uid="hivewire-agent-types",
    title="Hivewire / Agent types",
    description="What waits for agents of a type, how their handlers do, and what their states cost.",
    variables=(NAMESPACE, AGENT_TYPE),
    rows=(_WAITING, _HANDLING, _STATE, _CALLS),
)
