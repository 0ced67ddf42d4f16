"""What measures. Each prints a table and can print JSON; none of it is a test."""
