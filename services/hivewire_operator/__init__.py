"""The operator: runs agent systems on Kubernetes."""
