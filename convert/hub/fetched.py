"""What was fetched: where it is, where from, and against what it was verified."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convert.findings import Finding
from convert.hub.registry import Row
from pvt_spec.published import PUBLISHED
from pvt_spec.words import listed


@dataclass(frozen=True)
class Fetched:
    """Published weights on this machine.

    Attributes:
        asked: The name that was asked for, without ``hub:``.
        row: What the registry says of them.
        path: Their file, or folder.
        address: Where they came from: an address, or a repository.
        commit: The commit of the repository; "" of a file.
        hashes: The sha256 of every file, by name, that of the weights first.
        size: Bytes of the weights' file.
        against: The words for what the hash was compared with; "" where nothing is known of it.
        fresh: Whether they were downloaded now.
        others: The names of what ``asked`` could have stood for too.
        licence: The licence.
        notes: What else is to be said.
    """

    asked: str
    row: Row
    path: Path
    address: str
    commit: str
    hashes: Mapping[str, str]
    size: int
    against: str
    fresh: bool
    others: tuple[str, ...] = ()
    licence: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def sha256(self) -> str:
        """The hash of the weights' file."""
        return next(iter(self.hashes.values()))

    @property
    def verified(self) -> str:
        """The words for how far they are verified."""
        return self.against or "nothing is published to verify it by; convert hub --record keeps it"

    def findings(self) -> Iterator[Finding]:
        """Yields what they are and where from."""
        chosen = f"not {listed(self.others, 4)}" if self.others else ""
        yield Finding("hub", self.row.name, chosen)
        yield Finding("from", self.address, f"commit {self.commit}" if self.commit else "")
        yield Finding("sha256", self.sha256, self.verified)
        if self.licence:
            yield Finding("licence", self.licence)
        yield from (Finding("warning", note) for note in self.notes)
        yield Finding("taken", str(self.path), "downloaded" if self.fresh else "was here")

    def __str__(self) -> str:
        """Says all of that in a line."""
        chosen = f", not {listed(self.others, 4)}" if self.others else ""
        commit = f", commit {self.commit}" if self.commit else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"{PUBLISHED}{self.asked} is {self.row.name}{chosen}, from {self.address}{commit}, "
            f"sha256 {self.sha256} ({self.verified}){notes}: {self.path} is taken"
        )

    def provenance(self) -> dict[str, str]:
        """Returns what travels with the weights of where they are from."""
        facts = {"hub": self.row.name, "address": self.address, "commit": self.commit}
        facts |= {"sha256": self.sha256, "verified": self.against, "licence": self.licence or ""}
        return {name: value for name, value in facts.items() if value}
