"""Checkpoint folders: safetensors, `config.json`, a record of what was measured, and the card."""
