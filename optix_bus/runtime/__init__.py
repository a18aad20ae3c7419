"""What nodes are and what runs them: one process or several, from a topology."""
