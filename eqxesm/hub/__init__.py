"""Repositories of the Hugging Face Hub: fetching checkpoints, and publishing them."""
