"""The Grafana dashboard, and what draws a picture of it without Grafana."""
