"""Whether two models gave the same answer: used by mining, the gate and the canary, never to score a benchmark."""

from shared.vqa.agreement.agree import agree
from shared.vqa.agreement.rule import AS_WRITTEN, OFF_A_CHART, AgreementRule, usual_rule

__all__ = ["AS_WRITTEN", "OFF_A_CHART", "AgreementRule", "agree", "usual_rule"]
