"""Threads, interrupts, atomic files, memory and the environment, for every stage."""
