"""Webhooks of others: who sends them signs them, in a way of its own, and does not know what an event is."""
