"""Reading, cleaning and batching proteins."""
