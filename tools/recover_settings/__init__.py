"""What `recover` wins back under one setting and another, at an equal number of samples trained."""
