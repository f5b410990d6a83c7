"""What a customer becomes before a model sees them: named columns, and rows of numbers."""
