"""Machine learning: from the features that a strategy declares to a registered model that trades."""
