"""The shared loader: preference pairs are read, rendered, tokenized, filtered and split once, for every arm."""
