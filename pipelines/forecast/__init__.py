"""What a training stage will need, found out on its shapes alone: real model classes and trainers, no weights."""
