"""Training runs and their checkpoints, experiments, model hopping, and training in memory."""
