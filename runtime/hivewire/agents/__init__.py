"""Base classes of agents, and what runtimes need to host them."""
