"""The ways to complete a partial texture, by name; apart from their code, so that the command line starts quickly."""

# "default" starts the sampler from the Gaussian posterior, "gaussian" is that posterior's mean itself, "replace"
# samples from noise (the paper's sampling).
METHODS = ("default", "gaussian", "replace")
