"""Self-contained diffusers pipelines; each file also works alone, as the pipeline.py of a published model."""
