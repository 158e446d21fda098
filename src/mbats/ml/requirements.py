"""Which packages a model needs to be opened, in the versions that it was trained with."""

from __future__ import annotations

from importlib.metadata import packages_distributions, version

# A model's pickle names classes of mbats.ml and of scikit-learn; MLflow reads and writes tables with pandas.
ALWAYS = ("mbats", "cloudpickle", "numpy", "pandas", "scikit-learn", "scipy")


def pinned_requirements(estimator: str) -> list[str]:
    """`name==version` of each package that the estimator with this dotted name needs, and of those that all models need."""
    own = packages_distributions().get(estimator.partition(".")[0], [])
    return [f"{name}=={version(name)}" for name in sorted({*ALWAYS, *own})]


__all__ = ["pinned_requirements"]
