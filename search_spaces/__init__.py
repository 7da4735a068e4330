"""What may be generated: ops, search spaces, templates and their kernel texts."""
