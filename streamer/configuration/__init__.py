"""Where settings come from: a file, the environment, flags; and how they are shown, secrets masked."""
