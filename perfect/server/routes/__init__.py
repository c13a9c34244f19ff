"""What is asked: one module per resource. No SQL in here."""
