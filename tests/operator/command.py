"""The command `hivewire`."""

from hivewire.cli import main

main()
