"""The embedded world: support tickets of a small CRM, generated from a seed, with a scorer that knows the truth."""
