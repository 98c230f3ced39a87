"""What a reward plug-in has to pass; for the tests of its author."""

from .contract import check_in_a_run, check_reward, grade, make_batch, make_sample

__all__ = ["check_in_a_run", "check_reward", "grade", "make_batch", "make_sample"]
