"""What is measured on a model: log-probs of replies, generated replies, benchmark tasks. Runs in a stage's process."""
