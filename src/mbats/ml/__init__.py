"""Machine learning: from the lines of a strategy to a model that it trades with."""
