"""The container image: how it is built, and what it must be."""
