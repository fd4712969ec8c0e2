"""Checkpoints: folders of safetensors and JSON, here and on the Hugging Face Hub."""
