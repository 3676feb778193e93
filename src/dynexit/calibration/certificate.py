"""What calibration certifies, as a file beside the exit set: ``calibration.json``.

The file holds a list of certificates, one for each kind of risk, bound, confidence and state
policy, so that a ladder of bounds may lie in it. It belongs to one backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynexit.digests import json_digest
from dynexit.errors import UserError
from dynexit.exits.exit_file import Fields
from dynexit.exits.fingerprint import Fingerprint
from dynexit.files import read_json, write_json

FORMAT = 1
FILE = "calibration.json"
VERIFIED = "verified"  # in place of a state policy: drafts with low scores are verified
Key = tuple[str, float, float, str, str]  # risk kind, risk, confidence, judge, state


@dataclass(frozen=True)
class Certificate:
    """With ``confidence``, the expected loss ``risk_kind`` at ``thresholds`` is at most ``risk``.

    It holds for questions drawn as the ``n`` calibration questions were (``data`` is their digest),
    decoded with this judge (``judge_digest`` of its weights), exit ``layers`` and state policy on
    this ``backbone``. ``threshold`` is the single number of which ``thresholds`` has one an exit.
    With the state ``VERIFIED`` exits draft at ``thresholds``, and drafts with scores of at least
    ``threshold`` are taken unverified (see ``evaluation.bounded``).
    ``empirical_risk`` and ``p_value`` are what the test saw; ``dynexit`` is the version that made
    the certificate, ``date`` the day in UTC.
    """

    risk_kind: str
    risk: float
    confidence: float
    threshold: float
    thresholds: tuple[float, ...]
    empirical_risk: float
    p_value: float
    n: int
    data: str
    judge: str
    judge_digest: str
    layers: tuple[int, ...]
    state: str
    backbone: Fingerprint
    dynexit: str
    date: str

    @property
    def key(self) -> Key:
        """What a file holds one certificate of."""
        return self.risk_kind, self.risk, self.confidence, self.judge, self.state


_NAMES = tuple(Certificate.__dataclass_fields__)


def save_certificates(
    directory: Path,
    certificates: Sequence[Certificate],
    backbone: Fingerprint,
    replaced: Sequence[Key] = (),
) -> Path:
    """Write certificates to ``calibration.json`` of ``directory`` and give back its path.

    Earlier ones with other keys stay; those of ``replaced`` keys go, so that a bound that is no
    longer certified doesn't keep its old certificate. Raises ``UserError`` if the file there is
    another backbone's or broken.
    """
    path = Path(directory) / FILE
    earlier = load_certificates(directory, backbone) if path.exists() else ()
    gone = {*replaced, *(certificate.key for certificate in certificates)}
    kept = [certificate for certificate in earlier if certificate.key not in gone]
    rows = [asdict(certificate) for certificate in (*kept, *certificates)]
    for row in rows:
        del row["backbone"]
    content = {"format": FORMAT, "backbone": asdict(backbone), "certificates": rows}
    write_json(path, {**content, "sha256": json_digest(_promised(content))})
    return path


def check_directory(directory: Path, backbone: Fingerprint) -> None:
    """Raise ``UserError`` where ``save_certificates`` would, before the work of calibrating."""
    if (Path(directory) / FILE).exists():
        load_certificates(directory, backbone)


def load_certificates(
    directory: Path, backbone: Fingerprint | None = None
) -> tuple[Certificate, ...]:
    """All certificates of an exit set's directory; with ``backbone``, only if they are its own.

    Raises ``UserError`` where the file is missing, malformed, of another format or version, or of
    another backbone.
    """
    path = Path(directory) / FILE
    if not path.exists():
        raise UserError(f"{directory} has no {FILE}; make one with 'dynexit calibrate'")
    fields = Fields(path, read_json(path))
    _check_present(fields, ("format", "backbone", "certificates"))
    if fields.integer("format") != FORMAT:
        raise UserError(f"{path}: format {fields.integer('format')} is unknown; update dynexit")
    theirs = _fingerprint(fields.within("backbone"))
    if backbone is not None and theirs != backbone:
        raise UserError(f"{path} was {theirs.difference(backbone)}; calibrate again for this model")
    count = fields.count("certificates")
    found = tuple(_certificate(fields.item("certificates", i), theirs) for i in range(count))
    digest = fields.text("sha256") if "sha256" in fields.content else None
    if digest is not None and digest != json_digest(_promised(fields.content)):
        raise UserError(
            f"{path} was changed since it was written (its SHA-256 differs); calibrate again"
        )
    return found


def load_certificate(
    directory: Path,
    risk: float | None = None,
    *,
    risk_kind: str | None = None,
    judge: str | None = None,
    state: str | None = None,
    backbone: Fingerprint | None = None,
) -> Certificate:
    """The one certificate of a directory that fits; what is None doesn't matter.

    Raises ``UserError`` where none or several fit, or the file is not usable.
    """
    path = Path(directory) / FILE
    found = load_certificates(directory, backbone)
    wanted = {"risk": risk, "risk_kind": risk_kind, "judge": judge, "state": state}
    asked = {name: value for name, value in wanted.items() if value is not None}
    fitting = [c for c in found if all(getattr(c, n) == value for n, value in asked.items())]
    if len(fitting) == 1:
        return fitting[0]
    there = "; ".join(_words(certificate) for certificate in fitting or found) or "nothing"
    if fitting:
        raise UserError(f"{path} certifies {there}; say which risk is meant")
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asked.items())
    words = words or "any risk"
    raise UserError(f"{path} has no certificate of {words}, only of {there}; calibrate for it")


def _promised(content: Mapping[str, Any]) -> Any:
    """What of the file its digest is of: nobody may relax a promise by hand."""
    return [content["backbone"], content["certificates"]]


def _words(c: Certificate) -> str:
    return f"{c.risk_kind} risk {c.risk:g} at {c.confidence:g} with {c.judge}, {c.state}"


def _certificate(fields: Fields, backbone: Fingerprint) -> Certificate:
    _check_present(fields, [name for name in _NAMES if name != "backbone"])
    found = Certificate(
        risk_kind=fields.text("risk_kind"),
        risk=_share(fields, "risk"),
        confidence=_share(fields, "confidence"),
        threshold=_threshold(fields, fields.number("threshold")),
        thresholds=tuple(_threshold(fields, value) for value in fields.numbers("thresholds")),
        empirical_risk=_share(fields, "empirical_risk"),
        p_value=_share(fields, "p_value"),
        n=fields.integer("n"),
        data=fields.text("data"),
        judge=fields.text("judge"),
        judge_digest=fields.text("judge_digest"),
        layers=tuple(fields.integers("layers")),
        state=fields.text("state"),
        backbone=backbone,
        dynexit=fields.text("dynexit"),
        date=fields.text("date"),
    )
    if len(found.thresholds) != len(found.layers):
        _refuse(fields, "thresholds", f"one an exit layer, which are {len(found.layers)}")
    if found.n < 1:
        _refuse(fields, "n", "at least 1")
    if not found.p_value <= 1.0 - found.confidence + 1e-12:
        _refuse(fields, "p_value", "at most 1 - confidence")
    return found


def _check_present(fields: Fields, names: Sequence[str]) -> None:
    for name in names:
        if name not in fields.content:
            raise UserError(
                f"{fields.path}: field {fields.place}{name} is missing; calibrate again"
            )


def _share(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if not 0.0 <= value <= 1.0:
        _refuse(fields, name, "from 0 to 1")
    return value


def _threshold(fields: Fields, value: float) -> float:
    if value < 0.0:
        _refuse(fields, "threshold", "at least 0")
    return value


def _refuse(fields: Fields, name: str, wanted: str) -> None:
    raise UserError(f"{fields.path}: field {fields.place}{name} must be {wanted}; calibrate again")


def _fingerprint(fields: Fields) -> Fingerprint:
    _check_present(fields, ("family", "depth", "hidden", "vocab", "digest"))
    return Fingerprint(
        fields.text("family"),
        fields.integer("depth"),
        fields.integer("hidden"),
        fields.integer("vocab"),
        fields.text("digest"),
    )
