"""What is counted, logged and told to others; it knows no other part of the service."""
