"""The registered model: kept in the store, verified, and turned into something that scores."""
