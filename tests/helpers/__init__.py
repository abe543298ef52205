"""Code that several test files share. Fixtures are in the conftest files."""
