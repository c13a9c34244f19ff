"""Examples of perfect at work; in an installed package this folder is ``perfect._examples``."""
