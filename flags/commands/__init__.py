"""The commands, one file each: what it takes, and what it does once its flags are parsed."""
