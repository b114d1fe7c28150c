"""The names of hardware models in the field, by rule: what vendors, drivers, Redfish, Slurm and PCI call one model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Between two words of a name.
_GAP = r"(?:[\s_,/-]|\((?:R|TM|C)\))"
_VENDOR = rf"(?:(?:NVIDIA|Corporation|Tesla|GeForce|Quadro|Mellanox|Intel|AMD){_GAP}*)*"
#: A chip's name before the product's, as PCI lists write it: `GH100 [H100 SXM5 80GB]`.
_CHIP = r"(?:G[A-Z]\d{3}[A-Z]{0,2}\s*\[)?"
#: A profile of a MIG instance, `1g.10gb`: it names a share of a board.
_PROFILE = r"(?:MIG[\s_-]*)?[1-7](?:c\.[1-7])?g\.\d+gb(?:[+.-]me(?:\.all)?)?"
_END = (
    rf"(?:{_GAP}+{_PROFILE}|{_GAP}*(?:GPU|CPU|DPU|Processor|SHARED|MIG|@\s*[\d.]+\s*GHz))*"
    r"\s*\]?(?:\s*\(rev\s\w+\))?\s*"
)
#: Forms of a PCI vendor and device: `10de:2330`, `0x10de:0x2330`, `VEN_10DE&DEV_2330`, `[10de:2330]` within a line.
_PCI = (
    re.compile(r"\s*(?:0x)?(?P<vendor>[0-9a-f]{4})[:\s](?:0x)?(?P<device>[0-9a-f]{4})\s*", re.IGNORECASE),
    re.compile(r".*VEN_(?P<vendor>[0-9a-f]{4})&DEV_(?P<device>[0-9a-f]{4}).*", re.IGNORECASE),
    re.compile(r".*\[(?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\].*", re.IGNORECASE),
    re.compile(r"\s*0x(?P<device>[0-9a-f]{4})(?P<vendor>[0-9a-f]{4})\s*", re.IGNORECASE),
)
#: Names kept in memory; the field has tens.
_KEPT = 4096


def pattern(names: Iterable[str], words: Iterable[str] = ()) -> str:
    """A regular expression over a whole name, the same in Python and RE2 (ClickHouse's `match`): a vendor, then one of
    `names` with any of `words` after each of its words, then a MIG profile or a word that means nothing. A `*` at a
    name's end takes anything that follows.
    """
    free = "|".join(map(_word, words))
    between = rf"(?:{_GAP}*(?:{free}))*" if free else ""
    spelled = []
    for name in names:
        *parts, last = _split(name)
        rest = "(?:[^0-9A-Za-z].*)?" if last == "*" else ""
        parts += [] if last == "*" else [last]
        spelled.append((between + _GAP + "*").join(map(_word, parts)) + between + rest)
    return rf"(?i)^\s*{_VENDOR}{_CHIP}{_VENDOR}(?:{'|'.join(spelled)}){_END}$"


def _split(name: str) -> list[str]:
    return re.findall(r"[^\s_,/-]+", name) or [name]


def _word(word: str) -> str:
    size = re.fullmatch(r"(\d+)GB", word)
    return rf"{size[1]}\s?Gi?B" if size else re.escape(word)


def pci_id(name: str) -> str | None:
    """`VENDOR:DEVICE` in lower-case hexadecimal from any form of it (NVML's number too: device above vendor, as decimal
    digits or `0x233010DE`); None for another name.
    """
    if re.fullmatch(r"\d{9,10}", name) and int(name) < 1 << 32:
        return f"{int(name) & 0xFFFF:04x}:{int(name) >> 16:04x}"
    for form in _PCI:
        if found := form.fullmatch(name):
            return f"{found['vendor']}:{found['device']}".lower()
    return None


def is_profile(name: str) -> bool:
    """Whether a name is a MIG profile alone (`1g.10gb`, `MIG 3g.40gb`), which several models have."""
    return re.fullmatch(_PROFILE, name.strip(), re.IGNORECASE) is not None


def plain(name: str) -> str:
    """The name without its vendor, blanks once."""
    return re.sub(rf"^\s*{_VENDOR}", "", " ".join(name.split()), flags=re.IGNORECASE) or name.strip()


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one model is written: its name in the catalogue, its pattern and its PCI ids."""

    model: str
    pattern: str
    pci: tuple[str, ...] = ()


@dataclass(slots=True)
class ModelNames:
    """Finds a model by any of its names: first by the catalogue's, then by PCI id, then by pattern; of two models that
    match, the later one (an operator's own) is the answer.
    """

    _exact: dict[str, str]
    _pci: dict[str, str]
    _patterns: list[tuple[re.Pattern[str], str]]
    _found: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Mapping[str, Spelling]) -> ModelNames:
        return cls(
            {name.lower(): name for name in models},
            {pci: name for name, spelling in models.items() for pci in spelling.pci},
            [(re.compile(spelling.pattern), name) for name, spelling in reversed(list(models.items()))],
        )

    def known(self) -> list[tuple[re.Pattern[str], str]]:
        """Every pattern with its model, in the order of the search."""
        return list(self._patterns)

    def find(self, name: str) -> str | None:
        """The catalogue's name of a model; None for one that it does not have."""
        if name not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> str | None:
        if exact := self._exact.get(name.strip().lower()):
            return exact
        pci = pci_id(name)
        if pci in self._pci:
            return self._pci[pci]
        return next((model for known, model in self._patterns if known.match(name)), None)
