"""Training of a compressed graph towards the dense one (extra `[torch]`)."""
