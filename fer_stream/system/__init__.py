"""What every stage needs of the system: threads, interrupts, atomic files, the environment."""
