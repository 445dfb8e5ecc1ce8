"""A model as every front end describes it, and the second moments along it."""
