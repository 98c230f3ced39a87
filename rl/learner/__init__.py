"""One policy on several ranks: packs, objectives, optimizer steps, outgoing weights."""
