"""The Parity Leveler: the training itself."""

from services.trainer.leveler.leveler import Leveler, last_complete_step, train

__all__ = ["Leveler", "last_complete_step", "train"]
