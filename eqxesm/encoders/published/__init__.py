"""ESM-C checkpoints as others publish them: tensor names, layouts, and a reader without torch."""
