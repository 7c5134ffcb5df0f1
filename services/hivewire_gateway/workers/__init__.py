"""Workers that join over a WebSocket, from processes that reach nothing but the gateway."""
