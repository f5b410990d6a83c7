"""What builds, ships and watches the service."""
