"""What a process counts and measures, for Prometheus: names, labels and meanings.

All are in the registry of the process (`prometheus_client.REGISTRY`), together with what a program counts for itself.
Labels are bounded: `system` is Hivewire's namespace (`namespace` would clash with the label that a scrape adds), types
of agents are what programs register, and what senders choose is cut off at a number of values. No label has a key, an
id or an address. Names follow https://prometheus.io/docs/practices/naming/.

In several processes that share a directory `PROMETHEUS_MULTIPROC_DIR`, gauges add up over those that live, so each
says of its own process alone.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STORE_DURATIONS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20)
_WAITS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
_SIZES_BYTES = (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)

# Messages, as the process that hosts the agent sees them

MESSAGES_RECEIVED = Counter(
    "hivewire_messages_received",
    "Messages that this process took in for its agents, each once, however often it is tried. What waits is not counted"
    " yet. Types beyond the first 100 are 'other'.",
    ["system", "agent_type", "message_type"],
)
MESSAGES_PROCESSED = Counter(
    "hivewire_messages_processed",
    "Messages that are finished, by kind and result (direct: ok, error, cancelled, dropped; event: ok, dead_letter,"
    " dropped, duplicate). An event that is to be tried again is not finished.",
    ["system", "agent_type", "kind", "result"],
)
MESSAGE_PROCESS_DURATION = Histogram(
    "hivewire_message_process_duration_seconds",
    "Time that a handler took, each attempt by itself, whatever came of it.",
    ["system", "agent_type"],
    buckets=_DURATIONS_S,
)
MESSAGE_QUEUE_LATENCY = Histogram(
    "hivewire_message_queue_latency_seconds",
    "Time from the storing of an event to the start of its first turn. Two clocks take part.",
    ["system", "agent_type"],
    buckets=_WAITS_S,
)
MESSAGE_RETRIES = Counter(
    "hivewire_message_retries",
    "Events that failed and are to be tried again.",
    ["system", "agent_type"],
)
MESSAGE_SIZE = Histogram(
    "hivewire_message_size_bytes",
    "Sizes of the payloads of messages, without their answers, by direction: in (to agents here), out.",
    ["system", "direction"],
    buckets=_SIZES_BYTES,
)
INFLIGHT_MESSAGES = Gauge(
    "hivewire_inflight_messages",
    "Messages that are being handled here, or wait for that in memory.",
    ["system", "agent_type"],
    multiprocess_mode="livesum",
)
HANDLER_SLOTS = Gauge(
    "hivewire_handler_slots",
    "Turns that may run at once, by state: used, available.",
    ["system", "state"],
    multiprocess_mode="livesum",
)
STREAM_CHUNKS = Counter(
    "hivewire_stream_chunks",
    "Chunks of streamed answers that handlers yielded.",
    ["system", "agent_type"],
)

# Messages, as the process that sends them sees them

MESSAGES_PUBLISHED = Counter(
    "hivewire_messages_published",
    "Events that this process sent to the broker, by result (ok, error). A topic type is cut off after its first ':';"
    " those beyond the first 100 are 'other'.",
    ["system", "topic", "result"],
)
PUBLISH_DURATION = Histogram(
    "hivewire_publish_duration_seconds",
    "Time from sending an event to the broker until it is acknowledged.",
    ["system"],
    buckets=_STORE_DURATIONS_S,
)
RPC_DURATION = Histogram(
    "hivewire_rpc_duration_seconds",
    "Time from sending a direct message to its outcome, by result (ok, error, cancelled, deadline, not_found,"
    " worker_lost, overloaded, conflict, unavailable). An agent type that nobody has registered is 'other'.",
    ["system", "agent_type", "result"],
    buckets=_DURATIONS_S,
)

# Agents and their states

AGENT_ACTIVATIONS = Counter(
    "hivewire_agent_activations",
    "Agents that were built, those that persist with their stored states, by result (ok, error).",
    ["system", "agent_type", "result"],
)
AGENT_PASSIVATIONS = Counter(
    "hivewire_agent_passivations",
    "Agents that were taken out of memory.",
    ["system", "agent_type"],
)
AGENTS_ACTIVE = Gauge(
    "hivewire_agents_active",
    "Agents in memory.",
    ["system", "agent_type"],
    multiprocess_mode="livesum",
)
STATE_LOAD_DURATION = Histogram(
    "hivewire_state_load_duration_seconds",
    "Time to read an agent's state from the broker.",
    ["system", "agent_type"],
    buckets=_STORE_DURATIONS_S,
)
STATE_SAVE_DURATION = Histogram(
    "hivewire_state_save_duration_seconds",
    "Time to write an agent's state to the broker.",
    ["system", "agent_type"],
    buckets=_STORE_DURATIONS_S,
)
STATE_CONFLICTS = Counter(
    "hivewire_state_conflicts",
    "Writes of states that were refused, as somebody else had written meanwhile.",
    ["system", "agent_type"],
)

# The process among others

SHARDS_OWNED = Gauge(
    "hivewire_shards_owned",
    "Shards that this process owns.",
    ["system", "agent_type"],
    multiprocess_mode="livesum",
)
EVENTS_EXPIRED = Counter(
    "hivewire_events_expired",
    "Events that left the stream before a type had read them. Which of the lost ones were for the type is not known, so"
    " each of its shards counts its share of all.",
    ["system", "agent_type"],
)
LEASE_CHANGES = Counter(
    "hivewire_lease_changes",
    "Shards that came to this process or left it, by reason: claimed (nobody had it), taken_over (from a process that"
    " is gone), released (as planned), lost (with the session, or to another process).",
    ["system", "agent_type", "reason"],
)
NATS_CONNECTED = Gauge(
    "hivewire_nats_connected",
    "Connections to NATS that stand: 1, or 0 while the broker is away.",
    ["system"],
    multiprocess_mode="livesum",
)
NATS_RECONNECTS = Counter(
    "hivewire_nats_reconnects",
    "How often the connection to NATS was made anew.",
    ["system"],
)
NATS_SLOW_CONSUMER = Counter(
    "hivewire_nats_slow_consumer",
    "Messages that the client dropped, as this process did not take them in time.",
    ["system"],
)
BUILD_INFO = Gauge(
    "hivewire_build_info",
    "1 for what runs here; component: worker, gateway.",
    ["system", "component", "version"],
    multiprocess_mode="livemax",
)

# The whole system, as the one process sees it that watches it; the others export none of these

SHARD_LAG_MESSAGES = Gauge(
    "hivewire_shard_lag_messages",
    "Events that wait for a type's agents, summed over its shards.",
    ["system", "agent_type"],
    multiprocess_mode="livemax",
)
SHARD_OLDEST_EVENT = Gauge(
    "hivewire_shard_oldest_event_seconds",
    "Age of the oldest event that is not finished for a type; 0 when none waits.",
    ["system", "agent_type"],
    multiprocess_mode="livemax",
)
SHARDS_WITHOUT_OWNER = Gauge(
    "hivewire_shards_without_owner",
    "Shards of a type that no living process owns.",
    ["system", "agent_type"],
    multiprocess_mode="livemax",
)
DEAD_LETTERS = Gauge(
    "hivewire_dead_letters",
    "Dead letters that are stored, of a type's agents.",
    ["system", "agent_type"],
    multiprocess_mode="livemax",
)
SESSIONS = Gauge(
    "hivewire_sessions",
    "Processes that live, by deployment and state: serving, draining.",
    ["system", "deployment", "state"],
    multiprocess_mode="livemax",
)
LAG_READ_ERRORS = Counter(
    "hivewire_lag_read_errors",
    "How often the system could not be read; the gauges keep what was read before.",
    ["system"],
)
