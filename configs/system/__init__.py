"""What every command asks of the machine: files, processes, versions."""
