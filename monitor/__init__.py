"""Is everything well? Health checks, in plain words with the remedy."""
