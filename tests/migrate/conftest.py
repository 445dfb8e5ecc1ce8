"""The corpus is old code to be migrated, not tests to be collected."""

collect_ignore = ["corpus"]
