"""The command line: parse, call one function, print. The only user of Typer."""
