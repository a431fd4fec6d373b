"""Judges: who scores or compares the models' stored replies. docs/judges.md says how to add one."""
