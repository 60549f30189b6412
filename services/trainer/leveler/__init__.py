"""The Parity Leveler: the training itself."""

from services.trainer.leveler.callbacks.saved_steps import last_complete_step
from services.trainer.leveler.leveler import Leveler
from services.trainer.leveler.training import train

__all__ = ["Leveler", "last_complete_step", "train"]
