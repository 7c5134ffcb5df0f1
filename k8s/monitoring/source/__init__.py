"""Dashboards and rules for what Hivewire exports, as Python; `python -m k8s.monitoring.source` writes their files.

Each panel answers one question, and its description says what to look for. Queries name only what the processes export;
a test holds them against it.
"""
