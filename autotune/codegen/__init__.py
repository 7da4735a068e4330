"""From a tuning database to kernels that a build can link."""

from autotune.codegen.build import BuildResult, build
from autotune.codegen.manifest import FORMAT_VERSION, Manifest, ManifestKernel

__all__ = ["FORMAT_VERSION", "BuildResult", "Manifest", "ManifestKernel", "build"]
