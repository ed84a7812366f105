"""What is in fast memory, what loading costs, and how that is measured."""
