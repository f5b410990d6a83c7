"""Whole customer bases: the function that serving applies to a customer, applied to tables."""
