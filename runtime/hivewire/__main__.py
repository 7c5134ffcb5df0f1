"""The command line as `python -m hivewire`."""

from hivewire.cli import main

if __name__ == "__main__":
    main()
