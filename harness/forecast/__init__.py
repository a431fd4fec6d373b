"""The bill before it is run: memory, time, disk and money, asked of a process of its own. Loads no torch."""
