"""Text that names things with options, and checks of what a user typed."""
