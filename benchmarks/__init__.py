"""What the README's figures come from. Each script prints a table and, as its last line, one JSON object."""
