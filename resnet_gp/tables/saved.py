"""A saved model and ``columns.json`` beside it, which says how tables are read for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resnet_gp.tables.reading import TableError
from resnet_gp.tables.schema import Schema
from resnet_gp.tables.tasks import Classification, Regression, Task

FORMAT = 2
MODEL, COLUMNS = "model", "columns.json"


@dataclass(frozen=True)
class SavedModel:
    """A fitted estimator, its task, the name of its target and what its columns hold."""

    model: Any
    task: Task
    target: str
    schema: Schema

    def save(self, folder: Path) -> None:
        """Write the files ``model`` and ``columns.json``."""
        self.model.save(folder / MODEL)
        content = {
            "format": FORMAT,
            "version": version("resnet-gp"),
            "task": self.task.name,
            "target": self.target,
            "training_rows": len(self.model.X_train_),
            "training_digest": _digest(self.model.X_train_),
            "columns": self.schema.to_json(),
        }
        (folder / COLUMNS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path, level: float) -> SavedModel:
        """Load a model and the ``columns.json`` beside it.

        Raises:
            TableError: a file is missing, cannot be read or has another format, or the two files
                are of different fits.
        """
        from resnet_gp.estimators import ResNetGPClassifier, ResNetGPRegressor

        if path.is_dir():
            raise TableError(f"{path} is a folder: name the file {path / MODEL}", "MODEL")
        content = _read(path.with_name(COLUMNS)) if path.exists() else {}
        is_classifier = content.get("task") == "classification"
        kind: Any = ResNetGPClassifier if is_classifier else ResNetGPRegressor
        try:
            model = kind.load(path, verbose=False)
        except (OSError, ValueError) as error:
            raise TableError(str(error), "MODEL") from error
        try:
            schema, target = Schema.from_json(content["columns"]), str(content["target"])
            rows, digest = int(content["training_rows"]), content["training_digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"{path.with_name(COLUMNS)} is damaged: {error}", "MODEL") from error
        if digest != _digest(model.X_train_[:rows]):
            raise TableError(f"{path} and {COLUMNS} beside it are of two different fits", "MODEL")
        task = Classification(model.classes_) if is_classifier else Regression(level)
        return cls(model, task, target, schema)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except FileNotFoundError:
        raise TableError(
            f"{path} is missing: resnet-gp fit writes it beside the model", "MODEL"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} cannot be read: {error!r}", "MODEL") from error
    if version != FORMAT:
        raise TableError(
            f"{path} has format {version}, written by resnet-gp {content.get('version')}; this "
            f"version reads format {FORMAT}",
            "MODEL",
        )
    return dict(content)


def _digest(X: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(X, dtype=np.float64).tobytes()).hexdigest()
