"""The three trainers, fed with ids that the shared loader made."""
