"""The rules: for each operation, the axes of its results, and which of its operands' are one."""
