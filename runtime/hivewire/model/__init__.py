"""The vocabulary of agents: ids, topics, messages and their contexts, without any I/O."""
