"""Results as files to take home."""
