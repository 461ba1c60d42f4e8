"""What becomes of agents and files when something goes wrong: every row counts what was lost."""
