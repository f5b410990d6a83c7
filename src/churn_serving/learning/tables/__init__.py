"""From a file of customers to columns: whatever kind of file it is, or one sentence why not."""
