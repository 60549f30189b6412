"""The Parity Leveler as a service: trains the student on a finished disparity set, measures the gain, promotes by
the gate.
"""
