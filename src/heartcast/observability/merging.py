"""What several processes count, as one scrape.

Processes that share a port answer its scrapes by turns, so each must answer for all. A
snapshot is what one process counts now, in bytes; merging adds counters, histograms and most
gauges up, and takes the largest or smallest where a sum would mean nothing, as the catalogue says.

A process that ends takes its counts along: rates stay right, but for one scrape that shows a
reset. Who must not have that scrapes each process at its own admin port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from heartcast.observability.metrics import LARGEST, SMALLEST, Metrics

Labels = tuple[tuple[str, str], ...]


class _Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric of one process."""

    name: str
    help: str
    type: str
    samples: list[tuple[str, Labels, float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


def snapshot(metrics: Metrics) -> bytes:
    """What this process counts now."""
    return _encode(
        [
            _Family(
                family.name,
                family.documentation,
                family.type,
                [
                    (sample.name, tuple(sorted(sample.labels.items())), sample.value)
                    for sample in family.samples
                ],
            )
            for family in metrics.families()
        ]
    )


def merged(snapshots: Iterable[bytes], accept: str = "") -> tuple[bytes, str]:
    """One scrape of several processes: body and content type, in the format ``accept`` asks for.

    Raises:
        msgspec.DecodeError: one of them is no snapshot.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(snapshots))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _sum(one: float, other: float) -> float:
    return one + other


class _Merged(Collector):
    def __init__(self, snapshots: Iterable[bytes]) -> None:
        self._families: dict[str, _Family] = {}
        self._values: dict[str, dict[tuple[str, Labels], float]] = {}
        for families in map(_decode, snapshots):
            for family in families:
                self._add(family)

    def _add(self, family: _Family) -> None:
        self._families.setdefault(family.name, family)
        values = self._values.setdefault(family.name, {})
        join = max if family.name in LARGEST else min if family.name in SMALLEST else _sum
        for name, labels, value in family.samples:
            before = values.get((name, labels))
            if before is None:
                values[name, labels] = value
            else:
                values[name, labels] = join(before, value)

    def collect(self) -> Iterator[Family]:
        for name, family in self._families.items():
            merged_family = Family(name, family.help, family.type)
            for (sample, labels), value in self._values[name].items():
                merged_family.add_sample(sample, dict(labels), value)
            yield merged_family
