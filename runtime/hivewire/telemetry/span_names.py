"""The names of attributes and events of spans, in one place: the conventions that they follow still move.

- Messaging: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
- Agents: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-agent-spans/
- HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/

What the conventions have no name for begins with `hivewire.`.
"""

from __future__ import annotations

from typing import Final

ERROR_TYPE: Final = "error.type"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_TEMPLATE: Final = "messaging.destination.template"
MESSAGING_CONSUMER_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CLIENT_ID: Final = "messaging.client.id"

# The names that AutoGen's spans have.
AUTOGEN_OPERATION: Final = "messaging.operation"
AUTOGEN_DESTINATION: Final = "messaging.destination"
AUTOGEN_MESSAGE_TYPE: Final = "messaging.message.type"
AUTOGEN_MESSAGE: Final = "message"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_SYSTEM: Final = "gen_ai.system"
"""What GEN_AI_PROVIDER was called before, and AutoGen still calls it."""
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_AGENT_ID: Final = "gen_ai.agent.id"
GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_SCHEME: Final = "url.scheme"

ATTEMPT: Final = "hivewire.attempt"
"""On the handling of an event: the how-manieth it is. On what became of one: that of the attempt that failed."""
RETRY_DELAY_S: Final = "hivewire.retry.delay_s"

RETRY: Final = "retry"
"""The event of a span whose message is to be handled again."""
DEAD_LETTER: Final = "dead_letter"
DROPPED: Final = "dropped"
"""The event of a span whose message was given up."""
