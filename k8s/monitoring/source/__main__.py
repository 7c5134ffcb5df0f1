"""Writes dashboards and rules: `python -m k8s.monitoring.source`, in the root of the repository."""

from k8s.monitoring.source.files import DASHBOARDS, files

for old in DASHBOARDS.glob("*.json"):
    old.unlink()
for path, text in files().items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
