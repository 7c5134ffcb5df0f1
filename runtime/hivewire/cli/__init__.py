"""The command line `hivewire`."""

from hivewire.cli.app import main

__all__ = ["main"]
