"""What each part of the method adds, measured on the demo world: ``python -m demo.ablation``, or ``make ablation``."""
