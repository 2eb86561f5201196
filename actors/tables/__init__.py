"""Where prompts come from: tables of any size, read a row group at a time."""
