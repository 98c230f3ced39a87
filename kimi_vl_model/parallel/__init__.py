"""The model over several ranks: sharded parameters, distributed experts, one state for any world.

Every function here is collective: all ranks call it, with the same arguments, in the same order.
"""
