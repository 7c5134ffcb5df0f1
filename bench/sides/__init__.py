"""The sides, a module each, imported only by the processes of that side."""
