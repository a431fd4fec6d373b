"""How a model is trained: the shared data loader, the trainers, the toy world."""
