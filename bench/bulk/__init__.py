"""Scoring whole tables beside other ways to do it: ``make bench ARGS=bulk``."""
