"""The web page: predictions, explanations and designs in a browser."""
