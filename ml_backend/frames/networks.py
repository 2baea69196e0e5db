"""The networks of one process, each built at first use, and what is known about their trunk without one.

torch takes seconds to import and half a gigabyte of memory: only a process that computes imports it.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ml_backend import __version__
from ml_backend.errors import BackendError, NetworkNeeded
from ml_backend.msml.frames import PREPROCESSING
from ml_backend.settings import Settings
from ml_backend.store.problems import ModelProblem
from ml_backend.store.trunks import Trunk, TrunkStore

if TYPE_CHECKING:
    from ml_backend.msml.network import Network


class Networks:
    """The networks of one process; safe to use from several threads.

    A process that never ``computes`` builds none, but raises NetworkNeeded.
    """

    def __init__(self, settings: Settings, computes: bool = True) -> None:
        self._settings = settings
        self._computes = computes
        self._networks: dict[int, Network] = {}
        self._trunk_known: Trunk | None = None
        self._building = threading.Lock()

    @property
    def trunk(self) -> Trunk:
        """The trunk of these settings; this builds a network only if none was built here before."""
        if self._trunk_known is None:
            built = next(iter(self._networks.values()), None)
            known = None if built else self._kept()
            self._trunk_known = known or _trunk_of(built or self.network(1))
        return self._trunk_known

    @property
    def were_built(self) -> bool:
        """Whether networks of these settings were built on this data folder before."""
        return self._kept() is not None

    def _kept(self) -> Trunk | None:
        return TrunkStore(self._settings.data_dir).read(self._built_from)

    @property
    def _built_from(self) -> str:
        """Everything that determines the trunk: equal texts mean equal trunks."""
        settings, weights = self._settings, self._settings.weights or "ImageNet"
        if Path(weights).is_file():
            status = Path(weights).stat()
            weights = f"{weights} {status.st_size} {status.st_mtime_ns}"
        parts = (settings.backbone, weights, settings.precision, PREPROCESSING, __version__, _processor())
        return " | ".join(parts)

    def network(self, label_count: int) -> Network:
        """The network with pre-trained weights and ``label_count`` outputs; its tail may belong to any version."""
        with self._building:
            if label_count not in self._networks:
                self._networks[label_count] = self.fresh(label_count)
            return self._networks[label_count]

    def fresh(self, label_count: int) -> Network:
        """A separate network for training, with the pre-trained tail; if it cannot be built, `/health` says why."""
        problem = ModelProblem(self._settings.data_dir)
        try:
            network = self.tried(label_count)
        except NetworkNeeded:
            raise
        except BackendError as error:
            problem.note(str(error))
            raise
        problem.clear()
        return network

    def tried(self, label_count: int) -> Network:
        """Like `fresh`, but a failure is not noted: nothing depends on a trial."""
        if not self._computes:
            raise NetworkNeeded("this process holds no network")
        from ml_backend.msml.build import build, use_threads

        settings = self._settings
        use_threads(settings.compute_threads)
        network = build(settings.backbone, label_count, settings.weights, settings.seed, settings.precision)
        self.note(network)
        return network

    def note(self, network: Network) -> None:
        """Record in the data folder, if it exists, that the network was built, and its trunk."""
        TrunkStore(self._settings.data_dir).keep(self._built_from, _trunk_of(network))


def _trunk_of(network: Network) -> Trunk:
    return Trunk(key=network.trunk_key, precision=network.trunk_precision, shape=network.activation_shape)


def _processor() -> str:
    """Name what decides the precision "auto": the processor's features, and whether there is a GPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    able = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    graphics = "GPU" if Path("/dev/nvidiactl").exists() else "CPU"
    return f"{graphics} {hashlib.sha256(able.encode()).hexdigest()[:8]}"
