"""From YAML text and overrides to a plain tree."""
