"""int8 that keeps its accuracy: what is quantised, by which ranges, what stays in float."""
