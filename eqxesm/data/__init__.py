"""Reading, cleaning, checking and batching proteins."""
