"""What users write in Kubernetes: the custom resources, as pydantic models."""
