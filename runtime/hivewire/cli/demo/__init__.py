"""The demo: four processes review Python sources."""
