"""The Open API: what apps call over HTTP (open-api.md)."""
