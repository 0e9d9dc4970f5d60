"""The head model, its loaders and the UV atlas."""
