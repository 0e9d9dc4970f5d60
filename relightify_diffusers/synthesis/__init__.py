"""Synthetic training samples: identities, skin and light."""
