"""Telemetry: what the owner sees: MQTT, Home Assistant, web page, alerts, Prometheus. It never trades."""
