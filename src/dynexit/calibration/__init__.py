"""Risk control: thresholds whose risk is certified with a chosen confidence."""

from dynexit.calibration.certificate import (
    VERIFIED,
    Certificate,
    check_directory,
    load_certificate,
    load_certificates,
    save_certificates,
)
from dynexit.calibration.fixed_sequence import Outcome, ThresholdTest, fixed_sequence
from dynexit.calibration.pvalues import binomial_tail, hoeffding_bentkus, needed_n, p_value

__all__ = [
    "VERIFIED",
    "Certificate",
    "Outcome",
    "ThresholdTest",
    "binomial_tail",
    "check_directory",
    "fixed_sequence",
    "hoeffding_bentkus",
    "load_certificate",
    "load_certificates",
    "needed_n",
    "p_value",
    "save_certificates",
]
