"""The commands of `prefduel`, a file each. They import at call what they need, so that `--help` is quick."""
